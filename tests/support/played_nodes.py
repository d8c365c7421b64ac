"""What kubelets would do in one namespace, played by a test: pods start, tasks end with a result, nothing is scheduled.

Deployments, Jobs and garbage collection are those of a real cluster. Each object has a disk, which is whole or damaged;
tasks read and repair it, and every run is written down.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import cast

from knowledgebeast_operator.cluster.client import Cluster, Json
from knowledgebeast_operator.cluster.kinds import POD
from knowledgebeast_operator.cluster.objects import LivePod
from knowledgebeast_operator.custom_resource.names import COMPONENT_LABEL, MAINTENANCE, NAME_LABEL, SERVICE, TASK_LABEL
from knowledgebeast_operator.errors import ClusterError

LOSS: dict[str, object] = {
    "documents_lower": 1, "documents_upper": 3, "from": "2026-01-07T11:00:00Z", "until": "2026-01-07T11:59:00Z",
    "ingest_again": [{"project": "p", "id": "d"}], "ingest_again_total": 1, "rpo_seconds": 60, "rto_seconds": 12,
}  # fmt: skip


@dataclass
class Disk:
    """The database of one object."""

    damage: str = "none"
    has_backup: bool = True
    runs: Counter[str] = field(default_factory=Counter[str])  # by the word after --attempt-id, with the task before it
    together: list[str] = field(default_factory=list[str])  # service pods that had the volume during a fenced task
    met_damage: set[str] = field(default_factory=set[str])  # pods that have read a damaged page


@dataclass
class Nodes:
    """Plays the kubelets of a namespace; `pods` is what the last look has shown."""

    cluster: Cluster
    namespace: str
    disks: dict[str, Disk] = field(default_factory=dict[str, Disk])
    pods: tuple[LivePod, ...] = ()
    started: dict[str, datetime] = field(default_factory=dict[str, datetime])

    def disk(self, name: str) -> Disk:
        return self.disks.setdefault(name, Disk())

    def pods_of(self, name: str, component: str) -> list[LivePod]:
        return [
            pod
            for pod in self.pods
            if pod.metadata.labels.get(NAME_LABEL) == name and pod.metadata.labels.get(COMPONENT_LABEL) == component
        ]

    async def turn(self) -> None:
        """One look at all pods: what has not started starts, and what is a task ends."""
        bodies = await self.cluster.list_objects(POD, self.namespace)
        self.pods = tuple(LivePod.model_validate(body) for body in bodies)
        for body, pod in zip(bodies, self.pods, strict=True):
            if pod.metadata.deletion_timestamp is not None or pod.is_over or pod.metadata.uid in self.started:
                continue
            try:
                await self._start(body, pod)
            except ClusterError:
                continue  # it was deleted meanwhile

    def met_damage(self) -> set[str]:
        """Uids of pods that have read a damaged page, and go on to say so."""
        return {uid for disk in self.disks.values() for uid in disk.met_damage}

    def look(self) -> None:
        """Service pods that run read the database."""
        for pod in self.pods:
            disk = self.disk(pod.metadata.labels.get(NAME_LABEL, ""))
            if pod.metadata.labels.get(COMPONENT_LABEL) == SERVICE and disk.damage != "none" and not pod.is_over:
                disk.met_damage.add(pod.metadata.uid)

    async def _start(self, body: Json, pod: LivePod) -> None:
        component = pod.metadata.labels.get(COMPONENT_LABEL, "")
        now = datetime.now(UTC)
        at = now.isoformat()
        if component != MAINTENANCE:
            status = _status(component, "Running", {"running": {"startedAt": at}}, at, is_ready=True)
        else:
            result = self._carry_out(body, pod)
            code = 0 if result["ok"] else 1
            ended = {"exitCode": code, "startedAt": at, "finishedAt": at, "message": json.dumps(result)}
            status = _status(component, "Failed" if code else "Succeeded", {"terminated": ended}, at, is_ready=False)
        await self.cluster.merge_status(POD, self.namespace, pod.metadata.name, status, uid=pod.metadata.uid)
        self.started[pod.metadata.uid] = now

    def _carry_out(self, body: Json, pod: LivePod) -> Mapping[str, object]:
        name, task = pod.metadata.labels[NAME_LABEL], pod.metadata.labels[TASK_LABEL]
        disk = self.disk(name)
        attempt = _attempt(body)
        disk.runs[f"{task} {attempt}"] += 1
        whole = {"task": task, "attempt": attempt, "ok": True}
        if task == "check":
            problems = list[str]() if disk.damage == "none" else ["page 7 is never used"]
            measured = {"damage": disk.damage, "problems": problems, "seq": 41, "documents": 90}
            return {**whole, "ok": not problems, "measured": measured}
        if task == "restore":
            disk.together += [other.metadata.name for other in self.pods_of(name, SERVICE) if not other.is_over]
            if not disk.has_backup:
                return {**whole, "ok": False, "refused": "no set passes every check", "reason": "NoVerifiedBackup"}
            disk.damage = "none"
            restored = {"backup_id": "20260107T110000Z-40", "documents": 90, "seconds": 3.5, "loss": LOSS}
            return {**whole, "measured": restored}
        return whole


def _attempt(body: Json) -> str:
    spec = cast("Mapping[str, list[Mapping[str, list[str]]]]", body["spec"])
    command = spec["containers"][0]["command"]
    return command[command.index("--attempt-id") + 1]


def _status(component: str, phase: str, state: Json, at: str, *, is_ready: bool) -> Json:
    ready = {"type": "Ready", "status": "True" if is_ready else "False", "lastTransitionTime": at}
    container = {
        "name": component, "image": "image", "imageID": "", "ready": is_ready, "restartCount": 0, "state": state,
    }  # fmt: skip
    return {"phase": phase, "startTime": at, "conditions": [ready], "containerStatuses": [container]}
