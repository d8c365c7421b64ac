"""Restarting pods: each is deleted by uid, never forced, and its controller makes a new one."""

from dataclasses import dataclass
from typing import Final

from knowledgebeast_operator.actions.results import Done, InProgress, Result, Withheld
from knowledgebeast_operator.cluster.client import Cluster
from knowledgebeast_operator.cluster.kinds import POD, operand_kind
from knowledgebeast_operator.cluster.objects import LiveOperand, Meta
from knowledgebeast_operator.core.actions import RollingRestart, Target
from knowledgebeast_operator.errors import Conflict, NotFound
from knowledgebeast_operator.leadership import Leadership

DESTRUCTIVE_TIMEOUT_SECONDS: Final = 3.0
"""Two thirds of the lease and this are less than the whole lease, so a request ends before another can lead."""

READS: Final = 3
"""How often the pod is read again when its status changed between the read and the delete."""

RESTARTING: Final = "Restarting"


@dataclass(frozen=True, slots=True)
class Restarts:
    """Deletes pods of one namespace at a time."""

    cluster: Cluster
    leadership: Leadership

    async def restart(self, namespace: str, target: Target) -> Result:
        """Deletes the pod if it is still the one that was meant. Runbook, incident 2, option A."""
        for _ in range(READS):
            pod = await self._live(namespace, target)
            if pod is None:
                return Done(f"pod {target.name} was gone already")
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

    async def next_of(self, namespace: str, action: RollingRestart) -> Result:
        """The next step of a rolling restart: one more pod, when as many are ready as the workload asks for."""
        name = action.target.name
        try:
            body = await self.cluster.get(operand_kind(action.target.kind), namespace, name)
        except NotFound:
            return Withheld("TargetReplaced", f"{action.target.kind} {name} is gone")
        workload = LiveOperand.model_validate({**body, "kind": action.target.kind})
        if workload.metadata.uid != action.target.uid:
            return Withheld("TargetReplaced", f"another {action.target.kind} has the name {name}")
        left = [pod for pod in action.pods if await self._is_there(namespace, pod)]
        ready, wanted = workload.status.ready_replicas, workload.spec.replicas
        if ready < wanted:
            return InProgress(RESTARTING, f"{ready} of {wanted} pods are ready; {len(left)} are left to be replaced.")
        if not left:
            return Done(f"replaced {len(action.pods)} pods of {name}")
        result = await self.restart(namespace, left[0])
        if isinstance(result, Withheld):
            return result
        return InProgress(RESTARTING, f"{result.message}; {len(left) - 1} are left.")

    async def _live(self, namespace: str, target: Target) -> Meta | None:
        try:
            return Meta.model_validate((await self.cluster.get(POD, namespace, target.name))["metadata"])
        except NotFound:
            return None

    async def _is_there(self, namespace: str, target: Target) -> bool:
        """Also while it ends: the next one waits for it."""
        pod = await self._live(namespace, target)
        return pod is not None and pod.uid == target.uid
