"""One executor per type of action. Everything is read again, live, before anything destructive is sent."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, cast

from knowledgebeast_operator.actions.jobs import Jobs
from knowledgebeast_operator.actions.overlays import OverlayStore
from knowledgebeast_operator.actions.restarts import Restarts
from knowledgebeast_operator.actions.results import Done, Result, Withheld
from knowledgebeast_operator.actions.tasks import Surroundings, TaskRunner, give_up
from knowledgebeast_operator.cluster.approvals import read_approval
from knowledgebeast_operator.cluster.client import Cluster, Json
from knowledgebeast_operator.cluster.kinds import INCIDENT_APPROVAL, KNOWLEDGE_BEAST, operand_kind
from knowledgebeast_operator.core.actions import (
    Action,
    PutFields,
    RestartPod,
    RollingRestart,
    RunFencedTask,
    RunTask,
    SetFields,
)
from knowledgebeast_operator.core.facts import Facts, Known
from knowledgebeast_operator.core.ledger import Attempt
from knowledgebeast_operator.core.policy import Policy
from knowledgebeast_operator.core.runbook import Mode, Runbook
from knowledgebeast_operator.custom_resource import InvalidKnowledgeBeastError, KnowledgeBeast
from knowledgebeast_operator.errors import Conflict, NotFound
from knowledgebeast_operator.leadership import Leadership
from knowledgebeast_operator.operands.effective import Effective

HOLDS_EVERYTHING: Final = frozenset({"ObjectGone", "Disabled"})
"""Nothing at all is written then, not even the end of a task."""


@dataclass(frozen=True, slots=True)
class Order:
    """An attempt that has been written down, and for whom.

    Attributes:
        attempt: what to do.
        incident: the incident that it belongs to.
        runbook: whose mode must still allow it.
        decided_for: the object as it was when this was decided.
        effective: what is in force for the object; None while nothing of it may be written.
        facts: what was known.
    """

    attempt: Attempt
    incident: str
    runbook: Runbook
    decided_for: KnowledgeBeast
    effective: Effective | None
    facts: Facts

    @property
    def action(self) -> Action:
        """What is carried out now: the action, or what takes it back."""
        is_undoing = self.attempt.undoing is not None and self.attempt.inverse is not None
        return self.attempt.inverse if is_undoing and self.attempt.inverse is not None else self.attempt.action


def executor_of(cluster: Cluster, leadership: Leadership, overlays: OverlayStore | None = None) -> "Executor":
    """An executor with everything that it needs; `overlays` is shared with whoever else looks at them."""
    jobs = Jobs(cluster, leadership)
    store = overlays or OverlayStore(cluster, jobs, leadership)
    return Executor(cluster, leadership, TaskRunner(cluster, jobs, store), store, Restarts(cluster, leadership))


@dataclass(frozen=True, slots=True)
class Executor:
    """Carries out actions on behalf of one object."""

    cluster: Cluster
    leadership: Leadership
    tasks: TaskRunner
    overlays: OverlayStore
    restarts: Restarts

    async def execute(self, order: Order, now: datetime) -> Result:
        """Carries out an attempt that has been written down, or the next step of it.

        Args:
            order: the attempt.
            now: for pauses and deadlines (UTC).

        Raises:
            NotLeader: nothing was sent.
            ClusterUnreachable: it is not known whether it was done; repeating it is safe.
        """
        body = await self._live_body(order.decided_for)
        withheld = _why_not(body, order, now) or await self._why_not_approved(order, now)
        if isinstance(order.action, RunTask | RunFencedTask):
            return await self._step_task(order, body, withheld, now)
        if withheld is not None:
            return withheld
        match order.action:
            case RestartPod(target=target):
                return await self.restarts.restart(order.decided_for.namespace, target)
            case RollingRestart() as action:
                return await self.restarts.next_of(order.decided_for.namespace, action)
            case SetFields() as action:
                return await self.overlays.put(
                    order.decided_for, order.attempt, order.incident, order.runbook.name, action
                )
            case PutFields() as action:
                return await self._put_fields(order.decided_for.namespace, action)

    async def _step_task(self, order: Order, body: Json | None, withheld: Withheld | None, now: datetime) -> Result:
        if withheld is None or await self._is_past_stopping(order, withheld):
            return await self._run_task(order, body, now)
        if order.attempt.begun is None or withheld.reason in HOLDS_EVERYTHING:
            return withheld
        return give_up(withheld)

    async def _put_fields(self, namespace: str, action: PutFields) -> Result:
        """Runbook, incident 2, option B: our own fields, of the very object that was looked at."""
        self.leadership.require()
        kind, target = operand_kind(action.target.kind), action.target
        try:
            await self.cluster.merge(kind, namespace, target.name, json.loads(action.patch), uid=target.uid)
        except (NotFound, Conflict):
            return Withheld("TargetReplaced", f"{target.kind} {target.name} is gone, or another one has its name")
        return Done(action.describe())

    async def _live_body(self, decided_for: KnowledgeBeast) -> Json | None:
        try:
            return await self.cluster.get(KNOWLEDGE_BEAST, decided_for.namespace, decided_for.name)
        except NotFound:
            return None

    async def _why_not_approved(self, order: Order, now: datetime) -> Withheld | None:
        """The approval is read again: it may have been taken back. What has begun is not asked for it any more."""
        asked = order.attempt.approval
        if asked is None or order.attempt.begun is not None or order.attempt.undoing is not None:
            return None
        try:
            found = await self.cluster.get(
                INCIDENT_APPROVAL, order.decided_for.namespace, asked.granted_by or order.attempt.id
            )
        except NotFound:
            return Withheld("NotApproved", f"the approval {asked.granted_by} has been deleted")
        approval = read_approval(found)
        if approval is None or not approval.allows(order.incident, order.attempt, now):
            return Withheld(
                "NotApproved", f"the approval {asked.granted_by} does not allow {order.attempt.id} any more"
            )
        return None

    async def _is_past_stopping(self, order: Order, withheld: Withheld) -> bool:
        """A task that runs is brought to its end; stopping it half-way would help nobody. The kill switch holds all."""
        if withheld.reason in HOLDS_EVERYTHING or order.attempt.begun is None:
            return False
        return await self.tasks.has_job(order.decided_for, order.attempt)

    async def _run_task(self, order: Order, body: Json | None, now: datetime) -> Result:
        if order.effective is None or not isinstance(order.facts.nodes, Known):
            return Withheld("NotReady", "what is in force for the object, or the state of its nodes, is not known")
        surroundings = Surroundings(order.effective, order.facts.nodes.value, recorded_nodes(body or {}))
        return await self.tasks.step(order.decided_for, order.incident, order.attempt, surroundings, now)


def _why_not(body: Json | None, order: Order, now: datetime) -> Withheld | None:
    """The last look at the object: its owner may have paused it while the tick was thinking."""
    decided_for, runbook = order.decided_for, order.runbook
    if body is None:
        return Withheld("ObjectGone", f"{decided_for.name} has been deleted")
    try:
        live = KnowledgeBeast.parse(body)
    except InvalidKnowledgeBeastError as error:
        return Withheld("InvalidSpec", str(error))
    if live.uid != decided_for.uid or live.is_being_deleted:
        return Withheld("ObjectGone", f"{live.name} is being deleted or is another object now")
    policy = Policy.of(live)
    is_bound = order.attempt.begun is not None or order.attempt.undoing is not None  # to be brought to its end
    if policy.mode is Mode.DISABLED and is_bound:
        return Withheld("Disabled", "spec.remediation.mode is Disabled")
    if live.generation != decided_for.generation and not is_bound:
        return Withheld("SpecChanged", f"generation {decided_for.generation} was judged, {live.generation} is live")
    pause = policy.pause_at(now)
    if pause is not None:
        return Withheld("Paused", f"remediation is paused: {pause.reason}")
    mode = live.spec.remediation.policy(runbook.name).mode or runbook.limits.mode
    if policy.mode is not Mode.ENFORCE or mode is not Mode.ENFORCE:
        return Withheld("ModeChanged", f"the mode is {policy.mode}, for {runbook.name} {mode}")
    return None


def recorded_nodes(body: Json) -> Mapping[str, str]:
    """Node by volume, as the object's status recalls it."""
    status = cast("Json", body.get("status") or {})
    listed = cast("Iterable[Mapping[str, str]]", status.get("volumes") or ())
    return {volume["name"]: volume["node"] for volume in listed if volume.get("node")}
