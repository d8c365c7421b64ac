"""The outermost layer: a tick that fails is counted and shown, and the loop goes on."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import cast

import pytest
from prometheus_client import REGISTRY

from fake_cluster import FakeCluster
from kb_facts import NOW
from knowledgebeast_operator import runbooks
from knowledgebeast_operator.cluster.client import Json
from knowledgebeast_operator.cluster.kinds import INCIDENT, KNOWLEDGE_BEAST, Kind
from knowledgebeast_operator.cluster.objects import LiveNode, LiveOperand, LivePod, Meta
from knowledgebeast_operator.cluster.watched import Indexes, Key, Watched
from knowledgebeast_operator.core.approvals import Approval
from knowledgebeast_operator.core.ledger import IncidentRecord, Severity
from knowledgebeast_operator.custom_resource import KnowledgeBeast
from knowledgebeast_operator.errors import ClusterUnreachable, Conflict
from knowledgebeast_operator.leadership import ClusterLease, Leadership
from knowledgebeast_operator.reconcile import APPLIED_AT_ONCE, Shell
from knowledgebeast_operator.record.events import EventRecorder
from knowledgebeast_operator.record.incident_body import new_body, record_of, with_status
from knowledgebeast_operator.record.metrics import ObjectGauges
from knowledgebeast_operator.serving import ObjectLoop, Wakeups
from knowledgebeast_operator.signals.gather import Sources

KEY = ("ns", "demo")


@dataclass
class ServingCluster(FakeCluster):
    """Applies succeed unless a test says otherwise; `statuses` has every status that was written."""

    statuses: list[Json] = field(default_factory=list[Json])
    applied: list[str] = field(default_factory=list[str])
    on_apply: Callable[[], None] = lambda: None

    async def apply(self, kind: Kind, namespace: str, body: Json) -> Json:
        self.on_apply()
        self.applied.append(kind.name)
        return self.put(kind, namespace, body)

    async def merge_status(self, kind: Kind, namespace: str, name: str, status: Json, *, uid: str) -> Json:
        self.statuses.append(status)
        return {}

    def condition(self, kind: str) -> str:
        """`status/reason` as written last."""
        for status in reversed(self.statuses):
            for item in cast("list[Mapping[str, str]]", status.get("conditions") or []):
                if item["type"] == kind:
                    return f"{item['status']}/{item['reason']}"
        return "absent"


@dataclass
class Scene:
    cluster: ServingCluster = field(default_factory=ServingCluster)
    wakeups: Wakeups = field(default_factory=Wakeups)
    objects: dict[Key, list[Watched[Json]]] = field(default_factory=dict[Key, list[Watched[Json]]])
    incidents: dict[Key, list[Watched[Json]]] = field(default_factory=dict[Key, list[Watched[Json]]])

    def show(self, uid: str = "kb", **parts: object) -> None:
        """What the watch shows of the object from now on."""
        body = self.cluster.put(KNOWLEDGE_BEAST, "ns", {"metadata": {"name": "demo", "namespace": "ns"}, **parts}, uid)
        self.objects[KEY] = [Watched(KNOWLEDGE_BEAST, Meta.model_validate(body["metadata"]), body)]

    def show_incident(self, record: IncidentRecord) -> None:
        """What the watch shows of an Incident."""
        created = self.cluster.put(INCIDENT, "ns", new_body(KnowledgeBeast.parse(self.objects[KEY][0].value), record))
        stored = self.cluster.put(INCIDENT, "ns", with_status(created, record))
        self.incidents[KEY] = [Watched(INCIDENT, Meta.model_validate(stored["metadata"]), stored)]

    def loop(self, interval_seconds: float = 0.01) -> ObjectLoop:
        pods: dict[Key, list[Watched[LivePod]]] = {}
        nodes: dict[Key, list[Watched[LiveNode]]] = {}
        operands: dict[Key, list[Watched[LiveOperand]]] = {}
        approvals: dict[Key, list[Watched[Approval]]] = {}
        indexes = Indexes(
            objects=self.objects,
            pods=pods,
            operands=operands,
            nodes=nodes,
            incidents=self.incidents,
            approvals=approvals,
        )
        store = ClusterLease(self.cluster, "ns", "lease", duration_seconds=15, timeout_seconds=3)
        leadership = Leadership(store, identity="me", duration_seconds=15, renew_seconds=1)
        shell = Shell(
            cluster=self.cluster,
            sources=Sources(indexes, {}, lambda namespace: True),
            leadership=leadership,
            events=EventRecorder(self.cluster, "me"),
            gauges=ObjectGauges(),
            runbooks=runbooks.load(),
            identity="me",
            default_image="image",
            incidents_kept=5,
            incidents_max_age=timedelta(days=1),
            clock=lambda: NOW,
        )
        return ObjectLoop(shell, self.wakeups, interval_seconds, timeout_seconds=20)

    async def serve_until(self, probe: Callable[[], bool], *, interval_seconds: float = 0.01) -> None:
        task = asyncio.create_task(self.loop(interval_seconds).serve(KEY, "kb"))
        try:
            await until(probe, seconds=20)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until(probe: Callable[[], bool], *, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while True:
            if probe():
                break
            await asyncio.sleep(0.01)


def errors() -> float:
    return REGISTRY.get_sample_value("knowledgebeast_reconcile_errors_total") or 0


async def test_a_good_object_gets_its_operands_and_every_condition() -> None:
    scene = Scene()
    scene.show(spec={})
    await scene.serve_until(lambda: bool(scene.cluster.statuses))
    assert {"Deployment", "StatefulSet", "PersistentVolumeClaim"} <= set(scene.cluster.applied)
    assert scene.cluster.condition("SignalsAvailable").startswith("False/")
    assert scene.cluster.condition("OperandsApplied") == "True/Applied"


@dataclass
class SlowCluster(ServingCluster):
    """Notes how many objects had their operands written at the same time."""

    under_way: set[str] = field(default_factory=set[str])
    most: int = 0

    async def apply(self, kind: Kind, namespace: str, body: Json) -> Json:
        metadata = cast("Mapping[str, Mapping[str, str]]", body["metadata"])
        name = metadata["labels"]["app.kubernetes.io/instance"]
        self.under_way.add(name)
        self.most = max(self.most, len(self.under_way))
        await asyncio.sleep(0.001)
        self.under_way.discard(name)
        return await super().apply(kind, namespace, body)


async def test_many_new_objects_are_applied_a_few_at_a_time() -> None:
    """All at once they would keep the event loop from renewing the Lease."""
    scene = Scene(SlowCluster())
    uids = {("ns", f"demo-{number}"): f"uid-of-{number}" for number in range(3 * APPLIED_AT_ONCE)}
    for (namespace, name), uid in uids.items():
        new = {"metadata": {"name": name, "namespace": namespace}, "spec": {}}
        body = scene.cluster.put(KNOWLEDGE_BEAST, namespace, new, uid)
        scene.objects[namespace, name] = [Watched(KNOWLEDGE_BEAST, Meta.model_validate(body["metadata"]), body)]
    loop = scene.loop()
    serving = [asyncio.create_task(loop.serve(key, uid)) for key, uid in uids.items()]
    await until(lambda: scene.cluster.applied.count("Deployment") >= len(uids), seconds=60)
    for task in serving:
        task.cancel()
    await asyncio.gather(*serving, return_exceptions=True)
    assert isinstance(scene.cluster, SlowCluster)
    assert scene.cluster.most == APPLIED_AT_ONCE


@pytest.mark.parametrize("error", [RuntimeError("a bug"), ClusterUnreachable("down")])
async def test_a_failed_tick_is_counted_and_shown_and_made_up_for(error: Exception) -> None:
    scene, faults = Scene(), [error, error]

    def fail() -> None:
        if faults:
            raise faults.pop()

    scene.cluster.on_apply = fail
    scene.show(spec={})
    before = errors()
    await scene.serve_until(lambda: scene.cluster.condition("Ready") == "Unknown/ReconcileError")
    await scene.serve_until(lambda: scene.cluster.condition("OperandsApplied") == "True/Applied")
    assert errors() == before + 2


async def test_a_spec_that_cannot_be_read_is_shown_and_nothing_is_applied() -> None:
    scene = Scene()
    scene.show(spec={"service": {"replicas": -1}})
    await scene.serve_until(lambda: scene.cluster.condition("Stalled") == "True/InvalidSpec")
    assert scene.cluster.applied == []


async def test_an_object_made_again_under_the_name_is_another_loops_matter() -> None:
    scene = Scene()
    scene.show(uid="another", spec={})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await scene.serve_until(lambda: bool(scene.cluster.applied))


async def test_an_event_wakes_the_loop_before_its_time() -> None:
    scene = Scene()
    scene.show(spec={"remediation": {"mode": "Disabled"}})
    woken: list[bool] = []

    def probe() -> bool:
        if scene.cluster.statuses and not woken:
            woken.append(True)
            scene.show(spec={})
            scene.wakeups.wake(KEY)
        return bool(scene.cluster.applied)

    await scene.serve_until(probe, interval_seconds=3600)


OPEN = IncidentRecord(
    name="demo-chroma-unreachable-0001",
    runbook="ChromaUnreachable",
    number=1,
    severity=Severity.P0,
    opened_at=NOW,
    detected_at=NOW,
)


async def test_the_incidents_of_a_deleted_object_do_not_stay_open() -> None:
    scene = Scene()
    scene.show(spec={})
    scene.show_incident(OPEN)
    await scene.loop().farewell(KEY)
    closed = record_of(await scene.cluster.get(INCIDENT, "ns", OPEN.name))
    assert not closed.is_open
    assert closed.timeline[-1].reason == "ObjectDeleted"


async def test_an_incident_that_was_just_written_is_closed_when_the_watch_has_caught_up() -> None:
    scene = Scene()
    scene.show(spec={})
    scene.show_incident(OPEN)
    refused: list[str] = []

    def refuse_once(verb: str, _kind: str, name: str) -> None:
        if verb != "get" and not refused:
            refused.append(name)
            raise Conflict(409, "Conflict", f"{name} was written by the last tick")

    scene.cluster.before = refuse_once
    await scene.loop().farewell(KEY)
    assert refused == [OPEN.name]
    assert not record_of(await scene.cluster.get(INCIDENT, "ns", OPEN.name)).is_open


async def test_an_incident_that_cannot_be_closed_does_not_hold_a_deletion_up() -> None:
    scene = Scene()
    scene.show(spec={})
    scene.show_incident(OPEN)

    def fail(_verb: str, _kind: str, _name: str) -> None:
        raise ClusterUnreachable("down")

    scene.cluster.before = fail
    await scene.loop().farewell(KEY)


class TestWakeups:
    """What our own writes to the status must not do is wake us."""

    def woken(self, wakeups: Wakeups) -> bool:
        event = wakeups.of(KEY)
        was_set = event.is_set()
        event.clear()
        return was_set

    def test_only_what_people_ask_for_wakes(self) -> None:
        wakeups = Wakeups()
        wakeups.of(KEY)
        wakeups.wake_when_asked(KEY, 1, {})
        assert self.woken(wakeups)
        wakeups.wake_when_asked(KEY, 1, {})
        assert not self.woken(wakeups)
        wakeups.wake_when_asked(KEY, 2, {})
        assert self.woken(wakeups)
        wakeups.wake_when_asked(KEY, 2, {"knowledgebeast.io/paused": "migration"})
        assert self.woken(wakeups)

    def test_an_object_that_nobody_serves_is_not_remembered(self) -> None:
        wakeups = Wakeups()
        wakeups.wake(KEY)
        assert not self.woken(wakeups)


async def test_a_storm_of_events_does_not_make_a_storm_of_ticks() -> None:
    scene, ticks = Scene(), [0]
    scene.show(spec={"remediation": {"mode": "Disabled"}})
    before = REGISTRY.get_sample_value("knowledgebeast_reconcile_duration_seconds_count") or 0

    def probe() -> bool:
        scene.wakeups.wake(KEY)
        ticks[0] = int((REGISTRY.get_sample_value("knowledgebeast_reconcile_duration_seconds_count") or 0) - before)
        return False

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await scene.serve_until(probe, interval_seconds=3600)
    assert 2 <= ticks[0] <= 6
