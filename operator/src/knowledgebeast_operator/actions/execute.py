"""One executor per type of action. Everything is read again, live, before anything destructive is sent."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

from knowledgebeast_operator.cluster.client import Cluster
from knowledgebeast_operator.cluster.kinds import KNOWLEDGE_BEAST, POD
from knowledgebeast_operator.cluster.objects import Meta
from knowledgebeast_operator.core.actions import Action, RestartPod
from knowledgebeast_operator.core.policy import Policy
from knowledgebeast_operator.core.runbook import Mode, Runbook
from knowledgebeast_operator.custom_resource import InvalidKnowledgeBeastError, KnowledgeBeast
from knowledgebeast_operator.errors import Conflict, NotFound
from knowledgebeast_operator.leadership import Leadership

DESTRUCTIVE_TIMEOUT_SECONDS: Final = 3.0
"""Two thirds of the lease and this are less than the whole lease, so a request ends before another can lead."""

READS: Final = 3
"""How often the pod is read again when its status changed between the read and the delete."""


@dataclass(frozen=True, slots=True)
class Done:
    """The API server confirmed it, or there is nothing left to do."""

    message: str


@dataclass(frozen=True, slots=True)
class Withheld:
    """Nothing was sent: what was decided no longer fits what is live."""

    reason: str
    message: str


Result: TypeAlias = Done | Withheld


@dataclass(frozen=True, slots=True)
class Executor:
    """Carries out actions on behalf of one object."""

    cluster: Cluster
    leadership: Leadership

    async def execute(self, action: Action, decided_for: KnowledgeBeast, runbook: Runbook, now: datetime) -> Result:
        """Carries out an attempt that has been written down.

        Args:
            action: what to do.
            decided_for: the object as it was when this was decided.
            runbook: whose mode must still allow it.
            now: for the pauses (UTC).

        Raises:
            NotLeader: nothing was sent.
            ClusterUnreachable: it is not known whether it was done; repeating it is safe.
        """
        withheld = await self._why_not(decided_for, runbook, now)
        if withheld is not None:
            return withheld
        match action:
            case RestartPod():
                return await self._restart_pod(decided_for.namespace, action)

    async def _why_not(self, decided_for: KnowledgeBeast, runbook: Runbook, now: datetime) -> Withheld | None:
        """The last look at the object: its owner may have paused it while the tick was thinking."""
        try:
            body = await self.cluster.get(KNOWLEDGE_BEAST, decided_for.namespace, decided_for.name)
            live = KnowledgeBeast.parse(body)
        except NotFound:
            return Withheld("ObjectGone", f"{decided_for.name} has been deleted")
        except InvalidKnowledgeBeastError as error:
            return Withheld("InvalidSpec", str(error))
        if live.uid != decided_for.uid or live.is_being_deleted:
            return Withheld("ObjectGone", f"{live.name} is being deleted or is another object now")
        if live.generation != decided_for.generation:
            return Withheld("SpecChanged", f"generation {decided_for.generation} was judged, {live.generation} is live")
        policy = Policy.of(live)
        pause = policy.pause_at(now)
        if pause is not None:
            return Withheld("Paused", f"remediation is paused: {pause.reason}")
        mode = live.spec.remediation.policy(runbook.name).mode or runbook.limits.mode
        if policy.mode is not Mode.ENFORCE or mode is not Mode.ENFORCE:
            return Withheld("ModeChanged", f"the mode is {policy.mode}, for {runbook.name} {mode}")
        return None

    async def _restart_pod(self, namespace: str, action: RestartPod) -> Result:
        """Deletes the pod if it is still the one that was meant. Runbook, incident 2, option A."""
        target = action.target
        for _ in range(READS):
            try:
                body = await self.cluster.get(POD, namespace, target.name)
            except NotFound:
                return Done(f"pod {target.name} was gone already")
            pod = Meta.model_validate(body["metadata"])
            if pod.uid != target.uid:
                return Done(f"pod {target.name} had been replaced already (uid {pod.uid})")
            if pod.deletion_timestamp is not None:
                return Done(f"pod {target.name} was being deleted already")
            self.leadership.require()
            try:
                await self.cluster.delete(
                    POD,
                    namespace,
                    target.name,
                    uid=target.uid,
                    resource_version=pod.resource_version,
                    timeout_seconds=DESTRUCTIVE_TIMEOUT_SECONDS,
                )
            except NotFound:
                return Done(f"pod {target.name} was gone already")
            except Conflict:
                continue
            return Done(f"deleted pod {target.name} (uid {target.uid})")
        return Withheld("PodChanging", f"pod {target.name} changed {READS} times while it was being deleted")
