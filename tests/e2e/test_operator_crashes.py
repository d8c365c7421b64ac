"""Incident 8 on a real API server while the operator dies, or loses a reply, at any one of its writes.

Every life of the operator is the real loop in this process; a death throws all that it knew away. Real are the API
server and the controllers of Deployments and Jobs. What kubelets and a Prometheus would say is played
(`played_nodes`): nothing is scheduled, so this runs beside anything. Whatever happens, the end is that of a quiet run.

All writes are tried with CRASH_STEP=1; by default every fifth, beginning with another one for each kind of fault.
"""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from faulty_cluster import Fault, FaultyCluster
from harness.cluster import Cluster as HarnessCluster
from knowledgebeast_operator.cluster.client import Cluster, Json
from knowledgebeast_operator.cluster.kinds import CONFIG_MAP, DEPLOYMENT, EVENT, INCIDENT, JOB, KNOWLEDGE_BEAST, Kind
from knowledgebeast_operator.core.ledger import Outcome
from knowledgebeast_operator.custom_resource.names import SERVICE
from knowledgebeast_operator.record.incident_body import record_of
from operator_in_process import Life, Snapshot
from played_nodes import Nodes

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]

CRDS = Path(__file__).parents[2] / "crds"
STEP = int(os.environ.get("CRASH_STEP", "5"))
AT_ONCE = 8
REPLICAS = 2
NOWHERE = {"knowledgebeast.io/test": "nowhere"}
QUICK = {"window": "15s", "for": "5s", "settle": "5s", "healthyPeriod": "5s", "verifyTimeout": "60s"}
SPEC: Json = {
    "service": {"replicas": REPLICAS, "podTemplate": {"nodeSelector": NOWHERE}},
    "chroma": {"storage": {"size": "64Mi"}},
    "database": {"storage": {"size": "64Mi"}},
    "remediation": {"runbooks": [{"name": name, **QUICK} for name in ("ChromaUnreachable", "DatabaseCorruption")]},
}


@dataclass(frozen=True)
class Ending:
    """What is left when everything is over; equal endings are as good as each other."""

    outcomes: tuple[tuple[str, str, Outcome | None], ...]
    is_resolved: bool
    escalation: str | None
    data_loss: str
    damage: str
    runs: tuple[tuple[str, int], ...]
    wrote_beside_the_task: tuple[str, ...]
    jobs: int
    replicas: int
    service_pods: int
    overlays: Json
    told_twice: tuple[str, ...]


@dataclass
class Stage:
    """One namespace for all runs, with whoever plays in it."""

    cluster: Cluster
    snapshot: Snapshot
    nodes: Nodes
    namespace: str

    async def play(self) -> None:
        while True:
            await self.nodes.turn()
            self.nodes.look()
            await self.snapshot.refresh()
            await asyncio.sleep(0.2)

    async def live(self, name: str, at: int | None = None, fault: Fault = Fault.DIES_BEFORE) -> "tuple[Ending, Life]":
        """One object from its beginning to a damaged database to the end of its incident."""
        body = {
            "apiVersion": KNOWLEDGE_BEAST.api_version, "kind": KNOWLEDGE_BEAST.name,
            "metadata": {"name": name, "namespace": self.namespace}, "spec": SPEC,
        }  # fmt: skip
        await self.cluster.create(KNOWLEDGE_BEAST, self.namespace, body)
        connection = await FaultyCluster.connect(field_manager="knowledgebeast-operator", timeout_seconds=10,
                                                 user_agent=f"crashes/{name}")  # fmt: skip
        life = Life(self.snapshot, self.nodes, (self.namespace, name), connection)
        try:
            await life.run_until(lambda: self._serves(name), timeout_seconds=180)
            connection.at, connection.fault, connection.is_counting = at, fault, True
            self.nodes.disk(name).damage = "pages"
            await life.run_until(lambda: self._is_over(name), timeout_seconds=360)
            connection.is_counting = False
            await life.run_until(lambda: self._serves(name), timeout_seconds=180)
            ending = await self._ending(name)
            # The garbage collector takes all that it owned; what is looked at stays small.
            uid = cast("dict[str, str]", (await self.cluster.get(KNOWLEDGE_BEAST, self.namespace, name))["metadata"])
            await self.cluster.delete(
                KNOWLEDGE_BEAST,
                self.namespace,
                name,
                uid=uid["uid"],
                resource_version=uid["resourceVersion"],
                timeout_seconds=10,
            )
            return ending, life
        finally:
            await connection.close()

    def _serves(self, name: str) -> bool:
        pods = self.nodes.pods_of(name, SERVICE)
        return len([pod for pod in pods if pod.metadata.uid in self.nodes.started]) == REPLICAS

    def _is_over(self, name: str) -> bool:
        found = self.snapshot.incidents.get((self.namespace, name), [])
        return bool(found) and all(not record_of(item.value).is_open for item in found)

    async def _ending(self, name: str) -> Ending:
        records = [record for item in await self._own(INCIDENT, name) for record in [record_of(item)]]
        (record,) = records
        overlays = [item for item in await self._own(CONFIG_MAP, name) if _name(item).endswith("-overlays")]
        (deployment,) = await self._own(DEPLOYMENT, name)
        disk = self.nodes.disk(name)
        events = [_name(item) for item in await self.cluster.list_objects(EVENT, self.namespace)]
        return Ending(
            outcomes=tuple((a.option, a.action.type, a.outcome) for a in record.attempts),
            is_resolved=not record.is_open,
            escalation=record.escalation.reason if record.escalation else None,
            data_loss=record.data_loss.model_dump_json(exclude={"rto_seconds"}) if record.data_loss else "",
            damage=disk.damage,
            runs=tuple(sorted((run.split(" ")[0], count) for run, count in disk.runs.items())),
            wrote_beside_the_task=tuple(disk.together),
            jobs=len([item for item in await self._own(JOB, name) if _name(item).startswith(record.name)]),
            replicas=cast("int", cast("Json", deployment["spec"])["replicas"]),
            service_pods=len(self.nodes.pods_of(name, SERVICE)),
            overlays=cast("Json", overlays[0].get("data") or {}) if overlays else {},
            told_twice=tuple(event for event in events if events.count(event) > 1),
        )

    async def _own(self, kind: Kind, name: str) -> tuple[Json, ...]:
        return await self.cluster.list_objects(kind, self.namespace, f"knowledgebeast.io/name={name}")


def _name(body: Json) -> str:
    return cast("dict[str, str]", body["metadata"])["name"]


@pytest.fixture(scope="module")
def namespace(cluster: HarnessCluster) -> Iterable[str]:
    name = f"crashes-{uuid.uuid4().hex[:8]}"
    cluster.kubectl.run("apply", "-k", str(CRDS))
    cluster.kubectl.run("create", "namespace", name)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("KUBECONFIG", str(cluster.kubectl.kubeconfig))  # for the operator's client, in this process
        yield name
    cluster.kubectl.run("delete", "namespace", name, "--wait=false")


@pytest.fixture
async def stage(namespace: str) -> AsyncIterator[Stage]:
    connection = await Cluster.connect(field_manager="test", timeout_seconds=10, user_agent="test")
    made = Stage(connection, Snapshot(connection, namespace), Nodes(connection, namespace), namespace)
    playing = asyncio.create_task(made.play())
    yield made
    playing.cancel()
    await asyncio.gather(playing, return_exceptions=True)
    await connection.close()


async def test_whatever_the_write_at_which_it_dies_the_end_is_the_same(stage: Stage) -> None:
    quiet, life = await stage.live("quiet")
    assert quiet == Ending(
        outcomes=(
            ("CheckIntegrity", "RunTask", Outcome.DIAGNOSED),
            ("RestoreDatabase", "RunFencedTask", Outcome.SUCCESSFUL),
        ),
        is_resolved=True,
        escalation=None,
        data_loss=quiet.data_loss,
        damage="none",
        runs=(("check", 1), ("restore", 1)),
        wrote_beside_the_task=(),
        jobs=2,
        replicas=REPLICAS,
        service_pods=REPLICAS,
        overlays={},
        told_twice=(),
    )
    assert '"documents_lower":1' in quiet.data_loss.replace(" ", "")
    count = len(life.cluster.writes)
    tried = [(fault, at) for skipped, fault in enumerate(Fault) for at in range(1 + skipped % STEP, count + 1, STEP)]
    places = asyncio.Semaphore(AT_ONCE)

    async def one(fault: Fault, at: int) -> str | None:
        async with places:
            name = f"{fault.value.replace('_', '-')}-{at}"
            try:
                ending, life = await stage.live(name, at, fault)
            except TimeoutError:
                return f"{name}: never over"
            if life.deaths != (fault is not Fault.REPLY_LOST and len(life.cluster.writes) >= at):
                return f"{name}: {life.deaths} deaths"
            return None if ending == quiet else f"{name}: {ending}, after {life.errors}"

    failures = [failure for failure in await asyncio.gather(*(one(*item) for item in tried)) if failure is not None]
    assert failures == [], "\n".join(failures)
    print(f"{len(tried)} faults at {count} writes: every end is the same")
