"""Jobs of maintenance tasks as they are live: making one, following it, giving one up. Each call is one step."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from knowledgebeast_operator.cluster.client import Cluster, Json
from knowledgebeast_operator.cluster.kinds import JOB, POD
from knowledgebeast_operator.cluster.objects import ContainerStatus, LiveJob, LivePod, Terminated
from knowledgebeast_operator.core.ledger import DataLoss, TaskReport
from knowledgebeast_operator.core.task_result import TaskMessage, never_spoke
from knowledgebeast_operator.core.workload import CANNOT_START_REASONS, IMAGE_REASONS
from knowledgebeast_operator.custom_resource import KnowledgeBeast
from knowledgebeast_operator.custom_resource.names import ATTEMPT_LABEL, STOPPED_ANNOTATION
from knowledgebeast_operator.errors import NotFound
from knowledgebeast_operator.leadership import Leadership

START_WITHIN: Final = timedelta(minutes=2)
"""A Job whose pod does not run by then waits for something that does not come by itself: an image, room on a node."""


@dataclass(frozen=True, slots=True)
class Running:
    """It goes on; what is to be told about it."""

    message: str


@dataclass(frozen=True, slots=True)
class Ended:
    """It is over, and this is what came of it."""

    report: TaskReport
    loss: DataLoss | None = None


@dataclass(frozen=True, slots=True)
class Jobs:
    """The maintenance Jobs of one namespace at a time."""

    cluster: Cluster
    leadership: Leadership

    async def find(self, knowledgebeast: KnowledgeBeast, attempt: str) -> LiveJob | None:
        """The Job of the attempt."""
        try:
            return LiveJob.model_validate(await self.cluster.get(JOB, knowledgebeast.namespace, attempt))
        except NotFound:
            return None

    async def create(self, knowledgebeast: KnowledgeBeast, body: Json) -> None:
        """Makes the Job.

        Raises:
            AlreadyExists: it is there; the reply of an earlier try was lost.
            Rejected: a quota or an admission rule refuses it.
        """
        self.leadership.require()
        await self.cluster.create(JOB, knowledgebeast.namespace, body)

    async def look(self, knowledgebeast: KnowledgeBeast, job: LiveJob, now: datetime) -> Running | Ended:
        """How far the Job is. One that does not start is given up."""
        pods = await self._pods(knowledgebeast, job.metadata.name)
        if job.end is not None:
            return _ended(job, pods)
        if STOPPED_ANNOTATION in job.metadata.annotations:
            return Running("The Job is being stopped.")
        held_up = _held_up(pods)
        if held_up is not None and now > job.metadata.creation_timestamp + START_WITHIN:
            await self._stop(knowledgebeast, job, held_up)
            return Running(f"The Job is given up. {held_up}")
        return Running(held_up or "The Job runs.")

    async def is_over(self, knowledgebeast: KnowledgeBeast, attempt: str, *, because: str) -> bool:
        """Whether nothing of the attempt's Job runs any more; otherwise the Job is stopped, which takes its time."""
        job = await self.find(knowledgebeast, attempt)
        if job is not None and job.end is None:
            if STOPPED_ANNOTATION not in job.metadata.annotations:
                await self._stop(knowledgebeast, job, f"Abandoned: {because}")
            return False
        return all(pod.is_over for pod in await self._pods(knowledgebeast, attempt))

    async def _pods(self, knowledgebeast: KnowledgeBeast, attempt: str) -> list[LivePod]:
        found = await self.cluster.list_objects(POD, knowledgebeast.namespace, f"{ATTEMPT_LABEL}={attempt}")
        return sorted((LivePod.model_validate(body) for body in found), key=lambda pod: pod.metadata.creation_timestamp)

    async def _stop(self, knowledgebeast: KnowledgeBeast, job: LiveJob, why: str) -> None:
        """By its deadline: the Job controller then ends the pods, and the Job stays to be read."""
        self.leadership.require()
        patch = {"metadata": {"annotations": {STOPPED_ANNOTATION: why}}, "spec": {"activeDeadlineSeconds": 1}}
        await self.cluster.merge(JOB, knowledgebeast.namespace, job.metadata.name, patch, uid=job.metadata.uid)


def _ended(job: LiveJob, pods: Iterable[LivePod]) -> Ended:
    """The last word of its pods; without one, what Kubernetes says about its end."""
    ends = [end for pod in pods if (end := _termination(pod)) is not None]
    for end in reversed(ends):
        message = TaskMessage.read(end.message)
        if message is not None:
            return Ended(message.report(), message.loss())
    name, stopped = job.metadata.name, job.metadata.annotations.get(STOPPED_ANNOTATION)
    if stopped is not None:
        reason = stopped.partition(":")[0]
        return Ended(never_spoke(reason, f"Job {name} was given up. {stopped}", changed_nothing=not ends))
    if ends and ends[-1].reason == "OOMKilled":
        message = f"Job {name} ran out of memory. Raise spec.service.resources.limits.memory."
        return Ended(never_spoke("OutOfMemory", message, changed_nothing=False))
    condition = job.end
    said = f"{condition.reason}: {condition.message}" if condition is not None else "no reason"
    code = f" Its container ended with exit code {ends[-1].exit_code}." if ends else ""
    message = f"Job {name} left no result ({said}).{code} Read its log: kubectl logs job/{name}"
    return Ended(never_spoke("NoResult", message, changed_nothing=False))


def _termination(pod: LivePod) -> Terminated | None:
    status = _main(pod)
    return status.state.terminated if status is not None else None


def _main(pod: LivePod) -> ContainerStatus | None:
    return next(iter(pod.status.container_statuses), None)


def _held_up(pods: list[LivePod]) -> str | None:
    """`Reason: sentence` for a Job whose pod does not run; None when it does, or has ended."""
    if not pods:
        return "NoPod: its controller has made no pod; a quota or an admission rule may refuse it."
    pod = pods[-1]
    status = _main(pod)
    waiting = status.state.waiting if status is not None else None
    if waiting is not None and waiting.reason in IMAGE_REASONS:
        return (
            f"ImageUnavailable: {status.image if status else ''} cannot be pulled ({waiting.reason}): {waiting.message}"
        )
    if waiting is not None and waiting.reason in CANNOT_START_REASONS:
        return f"ContainerCannotStart: {waiting.reason}: {waiting.message}"
    if waiting is not None or (status is None and pod.status.phase in ("", "Pending")):
        scheduled = next((item for item in pod.status.conditions if item.type == "PodScheduled"), None)
        if scheduled is not None and scheduled.status == "False":
            return f"Unschedulable: {scheduled.message}"
        return f"NotStarted: pod {pod.metadata.name} has not started."
    return None
