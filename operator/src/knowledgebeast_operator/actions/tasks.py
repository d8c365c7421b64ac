"""Carrying out a maintenance task, one step for each look at the cluster. Nothing is remembered between the steps.

RunTask        Job ► its end
RunFencedTask  fence ► every pod that has the volume is gone ► Job ► its end   (the fence ends with the attempt)

An operator that dies between any two steps is followed by one that finds the fence, the pods and the Job as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from knowledgebeast_operator.actions.jobs import Ended, Jobs, Running
from knowledgebeast_operator.actions.overlays import OverlayStore
from knowledgebeast_operator.actions.results import Done, InProgress, Result, Withheld
from knowledgebeast_operator.cluster.client import Cluster
from knowledgebeast_operator.cluster.kinds import CLAIM, DEPLOYMENT, POD
from knowledgebeast_operator.cluster.objects import LiveOperand, LivePod, Meta
from knowledgebeast_operator.core.actions import RunFencedTask, RunTask
from knowledgebeast_operator.core.facts import Node
from knowledgebeast_operator.core.ledger import Attempt
from knowledgebeast_operator.core.overlays import Fence
from knowledgebeast_operator.core.task_result import never_spoke
from knowledgebeast_operator.custom_resource import KnowledgeBeast, format_duration, names
from knowledgebeast_operator.custom_resource.names import ATTEMPT_LABEL, COMPONENT_LABEL
from knowledgebeast_operator.errors import AlreadyExists, Conflict, NotFound, Rejected
from knowledgebeast_operator.operands.effective import Effective
from knowledgebeast_operator.operands.maintenance import (
    Anywhere,
    BesidePods,
    MaintenanceTask,
    OnNode,
    Placement,
    job,
)

WRITERS_GONE_WITHIN: Final = timedelta(minutes=3)
"""Several times what a service pod takes to end (its grace period is 40 s). Then something holds it that a person
has to see; a pod is never forced away, because a process that still runs would go on writing."""

FENCING: Final = "Fencing"
RUNNING: Final = "TaskRunning"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a task has to know beside the action: the object's effective settings and the cluster's nodes."""

    effective: Effective
    nodes: Mapping[str, Node]
    recorded_nodes: Mapping[str, str]  # by volume: where it was last in use


@dataclass(frozen=True, slots=True)
class TaskRunner:
    """Runs tasks for one object."""

    cluster: Cluster
    jobs: Jobs
    overlays: OverlayStore

    async def has_job(self, knowledgebeast: KnowledgeBeast, attempt: Attempt) -> bool:
        """Whether the task itself has begun; before that nothing has been touched."""
        return await self.jobs.find(knowledgebeast, attempt.id) is not None

    async def step(
        self,
        knowledgebeast: KnowledgeBeast,
        incident: str,
        attempt: Attempt,
        surroundings: Surroundings,
        now: datetime,
    ) -> Result:
        """The next step of a task that has been written down."""
        action = attempt.action
        if not isinstance(action, RunTask | RunFencedTask):
            raise TypeError(f"{action.type} is no task")
        live = await self.jobs.find(knowledgebeast, attempt.id)
        if live is not None:
            seen = await self.jobs.look(knowledgebeast, live, now)
            match seen:
                case Ended(report=report, loss=loss):
                    return Done(report.message, report, loss)
                case Running(message=message):
                    return InProgress(RUNNING, f"`{action.command}`: {message}")
        if not await self._is_claim(knowledgebeast, action):
            return _refused("ClaimGone", f"Claim {action.target.name} is gone, or another one has its name.")
        pods = await self._pods(knowledgebeast, action.target.name)
        if isinstance(action, RunFencedTask):
            waiting = await self._fence(knowledgebeast, incident, attempt, surroundings, pods, now)
            if waiting is not None:
                return waiting
        return await self._start(knowledgebeast, attempt, action, surroundings, pods)

    async def _is_claim(self, knowledgebeast: KnowledgeBeast, action: RunTask | RunFencedTask) -> bool:
        try:
            body = await self.cluster.get(CLAIM, knowledgebeast.namespace, action.target.name)
        except NotFound:
            return False
        return Meta.model_validate(body["metadata"]).uid == action.target.uid

    async def _pods(self, knowledgebeast: KnowledgeBeast, claim: str) -> list[LivePod]:
        """Every pod of the namespace that has the claim, whoever made it."""
        found = await self.cluster.list_objects(POD, knowledgebeast.namespace)
        return [pod for pod in (LivePod.model_validate(body) for body in found) if pod.mounts(claim)]

    async def _fence(
        self,
        knowledgebeast: KnowledgeBeast,
        incident: str,
        attempt: Attempt,
        surroundings: Surroundings,
        pods: list[LivePod],
        now: datetime,
    ) -> Result | None:
        """None when the fence stands and nobody else has the volume any more."""
        try:
            stands = await self.overlays.fence(knowledgebeast, Fence(incident=incident, attempt=attempt.id, at=now))
        except (Conflict, AlreadyExists):
            return InProgress(FENCING, "The overlays were written by somebody else meanwhile; they are read again.")
        if stands.attempt != attempt.id:
            return InProgress(FENCING, f"The fence of {stands.attempt} stands; this one comes after it.")
        others = [pod for pod in pods if pod.metadata.labels.get(ATTEMPT_LABEL) != attempt.id]
        lost = next((pod for pod in others if _is_lost(pod, surroundings.nodes)), None)
        if lost is not None:
            return _refused(
                "NodeLost",
                f"Node {lost.spec.node_name} of pod {lost.metadata.name} is lost, so nobody knows whether it still "
                "writes the database. Bring the node back, or delete it once it is surely off.",
            )
        if not others and await self._is_scaled_down(knowledgebeast):
            return None
        listed = ", ".join(pod.metadata.name for pod in others) or "none, but the Deployment still asks for some"
        if now >= stands.at + WRITERS_GONE_WITHIN:
            return _refused(
                "WritersPresent",
                f"After {format_duration(WRITERS_GONE_WITHIN)} there are still pods that have the volume: {listed}. "
                "Look why they do not end (kubectl describe pod); they are never forced away.",
            )
        return InProgress(FENCING, f"Waiting until no pod has the volume any more: {listed}.")

    async def _is_scaled_down(self, knowledgebeast: KnowledgeBeast) -> bool:
        """Whether no controller will make a service pod any more."""
        try:
            body = await self.cluster.get(DEPLOYMENT, knowledgebeast.namespace, names.service_name(knowledgebeast.name))
        except NotFound:
            return True
        live = LiveOperand.model_validate({**body, "kind": DEPLOYMENT.name})
        is_observed = live.status.observed_generation >= live.metadata.generation
        return live.spec.replicas == 0 and is_observed and live.status.replicas == 0

    async def _start(
        self,
        knowledgebeast: KnowledgeBeast,
        attempt: Attempt,
        action: RunTask | RunFencedTask,
        surroundings: Surroundings,
        pods: list[LivePod],
    ) -> Result:
        task = MaintenanceTask(
            attempt_id=attempt.id,
            task=action.task,
            arguments=action.arguments,
            volume=action.volume,
            run_id=f"{attempt.id}.{int(attempt.started.timestamp())}",
        )
        body = job(knowledgebeast, surroundings.effective, task, _placement(action.volume, pods, surroundings))
        try:
            await self.jobs.create(knowledgebeast, body)
        except AlreadyExists:
            return InProgress(RUNNING, f"`{action.command}`: the Job is there already.")
        except Rejected as error:
            return _refused("JobRejected", f"The API server refuses the Job: {error.message}")
        return InProgress(RUNNING, f"`{action.command}` runs in Job {attempt.id}.")


def give_up(withheld: Withheld) -> Done:
    """Somebody forbids a task that has put up its fence and not begun: it ends here, and the fence with it."""
    return _refused(withheld.reason, f"Given up before the task began: {withheld.message}.")


def _refused(reason: str, message: str) -> Done:
    return Done(message, never_spoke(reason, message, changed_nothing=True))


def _is_lost(pod: LivePod, nodes: Mapping[str, Node]) -> bool:
    """Whether the pod's kubelet cannot confirm its end. Without a node it never ran."""
    if pod.spec.node_name is None:
        return False
    node = nodes.get(pod.spec.node_name)
    return node is None or node.is_ready is not True


def _placement(volume: str, pods: list[LivePod], surroundings: Surroundings) -> Placement:
    """Where the volume is: beside the pods that have it, else on the node where it was last."""
    component = names.component_of(volume)
    if any(pod.spec.node_name and pod.metadata.labels.get(COMPONENT_LABEL) == component for pod in pods):
        return BesidePods()
    node = surroundings.recorded_nodes.get(volume)
    return OnNode(node) if node is not None and node in surroundings.nodes else Anywhere()
