"""Runs of maintenance tasks, as the pods that have ended show them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from knowledgebeast_operator.cluster.objects import LivePod
from knowledgebeast_operator.core.protection import FailedRun
from knowledgebeast_operator.core.task_result import TaskMessage
from knowledgebeast_operator.custom_resource.names import ATTEMPT_LABEL, TASK_LABEL
from knowledgebeast_operator.operands.cron_jobs import JOB_NAME_LABEL

M = TypeVar("M", bound=BaseModel)

MAX_MESSAGE: Final = 512


@dataclass(frozen=True, slots=True)
class Run:
    """One pod of a task that has ended."""

    attempt: str
    ended_at: datetime
    result: TaskMessage | None
    said: str  # by the task or by Kubernetes, where there is no result
    reason: str

    @property
    def is_good(self) -> bool:
        return self.result is not None and self.result.ok

    def failed(self) -> FailedRun:
        said = (self.result.refused if self.result is not None else None) or self.said
        reason = (self.result.reason if self.result is not None else None) or self.reason
        return FailedRun(self.attempt, self.ended_at, reason, said[:MAX_MESSAGE])

    def measured(self, model: type[M]) -> M | None:
        """What it measured; None where it is not that."""
        if self.result is None:
            return None
        try:
            return model.model_validate(self.result.measured)
        except ValidationError:
            return None


def runs_of(task: str, pods: Iterable[LivePod]) -> list[Run]:
    """Those that have ended, newest first."""
    found = (_run(pod) for pod in pods if pod.metadata.labels.get(TASK_LABEL) == task)
    return sorted((run for run in found if run is not None), key=lambda run: run.ended_at, reverse=True)


def _run(pod: LivePod) -> Run | None:
    end = next((status.state.terminated for status in pod.status.container_statuses), None)
    if end is None or end.finished_at is None:
        return None
    labels, said = pod.metadata.labels, (end.message or "").strip()
    result, code = TaskMessage.read(said), end.exit_code
    if result is not None:
        why = f"it ended with exit code {code}"
    else:
        why = said.rpartition("\n")[2] or f"it left no result and ended with exit code {code}"
    return Run(
        attempt=labels.get(ATTEMPT_LABEL) or labels.get(JOB_NAME_LABEL) or pod.metadata.name,
        ended_at=end.finished_at,
        result=result,
        said=why,
        reason=end.reason or "Error",
    )
