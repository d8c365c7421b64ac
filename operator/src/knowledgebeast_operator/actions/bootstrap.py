"""Filling the database of a new object before anything uses it. One look is one step; nothing is remembered between.

no restoreFrom, or the Deployment exists      ──► over: the service has started once
no Job                                        ──► it is made, once the claims are there
the Job goes on                               ──► Restoring
it restored, or found a database on the volume──► over: the Deployment is applied
it failed                                     ──► RestoreBlocked, until a person deletes the Job
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, cast

from knowledgebeast_operator.cluster.client import Cluster, Json
from knowledgebeast_operator.cluster.kinds import DEPLOYMENT, JOB
from knowledgebeast_operator.cluster.objects import LiveJob, LiveOperand, LivePod
from knowledgebeast_operator.core.overview import Bootstrap
from knowledgebeast_operator.core.task_result import TaskMessage
from knowledgebeast_operator.custom_resource import KnowledgeBeast, names
from knowledgebeast_operator.errors import AlreadyExists, NotFound
from knowledgebeast_operator.operands import Effective
from knowledgebeast_operator.operands.bootstrap import bootstrap_job

RESTORING: Final = "Restoring"
BLOCKED: Final = "RestoreBlocked"

NOT_NEW: Final = "NothingToRepair"
"""How `maintain restore --new-volume` refuses a volume that holds a database."""


@dataclass(frozen=True, slots=True)
class Bootstrapper:
    """Looks after the one restore of each new object."""

    cluster: Cluster

    async def look(
        self, knowledgebeast: KnowledgeBeast, live: Iterable[LiveOperand], pods: Iterable[LivePod]
    ) -> Bootstrap | None:
        """How far it is; None when there is nothing to restore, or it is over."""
        source = knowledgebeast.spec.bootstrap.restore_from
        service = names.service_name(knowledgebeast.name)
        is_started = any(one.kind == DEPLOYMENT.name and one.metadata.name == service for one in live)
        if source is None or is_started:
            return None
        body = await self._job(knowledgebeast)
        if body is None:
            return Bootstrap(RESTORING, f"The restore from {source.source} is about to start.")
        job = LiveJob.model_validate(body)
        if not _is_owned_by(knowledgebeast.uid, body):
            return Bootstrap(RESTORING, f"Job {job.metadata.name} of an earlier object is being removed.")
        own = [pod for pod in pods if pod.metadata.labels.get(names.ATTEMPT_LABEL) == job.metadata.name]
        if job.end is None:
            return Bootstrap(RESTORING, f"Job {job.metadata.name} restores from {source.source}.{_hindrance(own)}")
        if job.end.type == "Complete":
            return None
        said = _last_word(own)
        if said is not None and said.reason == NOT_NEW:
            return None
        why = said.report().message if said is not None else f"{job.end.reason}: {job.end.message}"
        return Bootstrap(
            BLOCKED,
            f"Nothing could be restored from {source.source}: {why} When the cause is gone, `kubectl delete "
            f"job {job.metadata.name} -n {knowledgebeast.namespace}` tries it again.",
            needs_a_human=True,
        )

    async def start(self, knowledgebeast: KnowledgeBeast, effective: Effective) -> None:
        """Makes the Job unless it is there. Its claims have been applied."""
        source = knowledgebeast.spec.bootstrap.restore_from
        if source is None or await self._job(knowledgebeast) is not None:
            return
        try:
            await self.cluster.create(JOB, knowledgebeast.namespace, bootstrap_job(knowledgebeast, effective, source))
        except AlreadyExists:
            return

    async def _job(self, knowledgebeast: KnowledgeBeast) -> Json | None:
        name = names.bootstrap_job_name(knowledgebeast.name)
        try:
            return await self.cluster.get(JOB, knowledgebeast.namespace, name)
        except NotFound:
            return None


def _is_owned_by(uid: str, body: Json) -> bool:
    """Whether it is about this object, and not about an earlier one of the same name."""
    metadata = cast("Mapping[str, Iterable[Mapping[str, str]]]", body["metadata"])
    return any(owner.get("uid") == uid for owner in metadata.get("ownerReferences") or ())


def _last_word(pods: Iterable[LivePod]) -> TaskMessage | None:
    """What the last pod that said anything left behind."""
    for pod in sorted(pods, key=lambda pod: pod.metadata.creation_timestamp, reverse=True):
        for status in pod.status.container_statuses:
            end = status.state.terminated
            said = TaskMessage.read(end.message) if end is not None else None
            if said is not None:
                return said
    return None


def _hindrance(pods: Iterable[LivePod]) -> str:
    """Why its pod does not run; empty while it does."""
    for pod in pods:
        scheduled = next((item for item in pod.status.conditions if item.type == "PodScheduled"), None)
        if scheduled is not None and scheduled.status == "False":
            return f" Its pod cannot be scheduled: {scheduled.message}"
        for status in pod.status.container_statuses:
            if status.state.waiting is not None:
                waiting = status.state.waiting
                return f" Its pod has not started: {waiting.reason}: {waiting.message or 'no message'}"
    return ""
