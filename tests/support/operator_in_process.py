"""The operator's loop for one object in this process, on a real API server: it can die at any write and begin anew.

Signals come from `played_nodes`, and the watches are lists, taken again and again: like a watch they lag behind.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from fake_cluster import FakeCluster
from faulty_cluster import Died, FaultyCluster
from knowledgebeast_operator import runbooks
from knowledgebeast_operator.cluster import kinds
from knowledgebeast_operator.cluster.approvals import read_approval
from knowledgebeast_operator.cluster.client import Cluster, Json
from knowledgebeast_operator.cluster.objects import LiveNode, LiveOperand, LivePod, Meta
from knowledgebeast_operator.cluster.watched import Indexes, Key, Watched, key_of
from knowledgebeast_operator.core.approvals import Approval
from knowledgebeast_operator.custom_resource.names import COMPONENT_LABEL, NAME_LABEL, SERVICE
from knowledgebeast_operator.errors import OperatorError, PrometheusUnreachable
from knowledgebeast_operator.leadership import ClusterLease, Leadership
from knowledgebeast_operator.reconcile import Reconciler, Shell
from knowledgebeast_operator.record.events import EventRecorder
from knowledgebeast_operator.record.incident_body import subject_name
from knowledgebeast_operator.record.metrics import ObjectGauges
from knowledgebeast_operator.signals.gather import Sources, Target
from knowledgebeast_operator.signals.prometheus import Prometheus
from knowledgebeast_operator.signals.samples import Answer, RawSample, Stream
from played_nodes import Nodes

SCRAPE: Final = timedelta(seconds=0.3)
HISTORY: Final = timedelta(seconds=10)
TICK_SECONDS: Final = 0.2

T = TypeVar("T")
KeyOf = Callable[[Json, Meta], Key]


@dataclass
class Snapshot:
    """What all watches of a namespace have shown, taken anew by `refresh`."""

    cluster: Cluster
    namespace: str
    objects: dict[Key, list[Watched[Json]]] = field(default_factory=dict[Key, list[Watched[Json]]])
    pods: dict[Key, list[Watched[LivePod]]] = field(default_factory=dict[Key, list[Watched[LivePod]]])
    operands: dict[Key, list[Watched[LiveOperand]]] = field(default_factory=dict[Key, list[Watched[LiveOperand]]])
    incidents: dict[Key, list[Watched[Json]]] = field(default_factory=dict[Key, list[Watched[Json]]])
    approvals: dict[Key, list[Watched[Approval]]] = field(default_factory=dict[Key, list[Watched[Approval]]])
    refreshed: int = 0

    def __post_init__(self) -> None:
        nodes: dict[Key, list[Watched[LiveNode]]] = {}
        self.indexes = Indexes(self.objects, self.pods, self.operands, nodes, self.incidents, self.approvals)

    async def refresh(self) -> None:
        objects = await self._json(kinds.KNOWLEDGE_BEAST, lambda body, meta: (meta.namespace, meta.name))
        incidents = await self._json(kinds.INCIDENT, lambda body, meta: (meta.namespace, subject_name(body)))
        pods: dict[Key, list[Watched[LivePod]]] = {}
        for body in await self.cluster.list_objects(kinds.POD, self.namespace, NAME_LABEL):
            live = LivePod.model_validate(body)
            pods.setdefault(key_of(live.metadata), []).append(Watched(kinds.POD, live.metadata, live))
        operands: dict[Key, list[Watched[LiveOperand]]] = {}
        for kind in kinds.OPERANDS:
            for body in await self.cluster.list_objects(kind, self.namespace, NAME_LABEL):
                operand = LiveOperand.model_validate({**body, "kind": kind.name})
                operands.setdefault(key_of(operand.metadata), []).append(Watched(kind, operand.metadata, operand))
        approvals: dict[Key, list[Watched[Approval]]] = {}
        for body in await self.cluster.list_objects(kinds.INCIDENT_APPROVAL, self.namespace):
            approval, meta = read_approval(body), Meta.model_validate(body["metadata"])
            if approval is not None:
                approvals.setdefault((meta.namespace, ""), []).append(Watched(kinds.INCIDENT_APPROVAL, meta, approval))
        _replace(self.objects, objects)
        _replace(self.incidents, incidents)
        _replace(self.pods, pods)
        _replace(self.operands, operands)
        _replace(self.approvals, approvals)
        self.refreshed += 1

    async def _json(self, kind: kinds.Kind, key: KeyOf) -> dict[Key, list[Watched[Json]]]:
        found: dict[Key, list[Watched[Json]]] = {}
        for item in await self.cluster.list_objects(kind, self.namespace):
            body = {"apiVersion": kind.api_version, "kind": kind.name, **item}
            meta = Meta.model_validate(body["metadata"])
            found.setdefault(key(body, meta), []).append(Watched(kind, meta, body))
        return found


def _replace(shown: dict[Key, list[T]], found: dict[Key, list[T]]) -> None:
    """In place, because the indexes are live views."""
    shown.clear()
    shown.update(found)


PLAYED = (
    "kb_chroma_breaker_state[",
    "kb_canary_success_ratio[",
    "kb_canary_timestamp_seconds[",
    "kb_degraded_mode[",
    "kb_database_errors_total{",
    'kb_component_up{component="database"}',
    "sum by (namespace, pod, status) (increase(http_requests_total{",
)
"""How the queries begin that are answered; for all others there are no series."""


class PlayedPrometheus(Prometheus):
    """What a Prometheus would have scraped from the service pods that are played: Chroma, database, answers."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes

    async def ask(self, questions: Iterable[str]) -> Mapping[str, Answer | PrometheusUnreachable]:
        return {promql: self._answer(promql) for promql in questions}

    def _answer(self, promql: str) -> Answer:
        if not promql.startswith(PLAYED):
            return Answer(promql, ())
        return Answer(promql, tuple(self._stream(promql, pod) for pod in self._nodes.pods if self._is_scraped(pod)))

    def _is_scraped(self, pod: LivePod) -> bool:
        is_running = pod.metadata.uid in self._nodes.started and pod.metadata.deletion_timestamp is None
        return is_running and pod.metadata.labels.get(COMPONENT_LABEL) == SERVICE

    def _stream(self, promql: str, pod: LivePod) -> Stream:
        now, started = datetime.now(UTC), self._nodes.started[pod.metadata.uid]
        metric = {"namespace": self._nodes.namespace, "pod": pod.metadata.name, "status": "200"}
        count = int(min(HISTORY, now - started) / SCRAPE)
        times = [(now - SCRAPE * back).timestamp() for back in range(count, -1, -1)]
        values: tuple[RawSample, ...] = tuple((at, self._value(promql, pod, at)) for at in times)
        return Stream(metric=metric, values=values)

    def _value(self, promql: str, pod: LivePod, at: float) -> str:
        if promql.startswith("kb_canary_timestamp_seconds"):
            return str(at)
        if promql.startswith("kb_database_errors_total"):
            return "1" if pod.metadata.uid in self._nodes.met_damage() else "0"
        is_one = promql.startswith(("kb_canary_success_ratio", "kb_component_up", "sum"))
        return "1" if is_one else "0"


@dataclass
class Life:
    """The operator of one object, from one death to the next."""

    snapshot: Snapshot
    nodes: Nodes
    key: Key
    cluster: FaultyCluster
    deaths: int = 0
    errors: list[str] = field(default_factory=list[str])
    _reconciler: Reconciler | None = None
    _born_after: int = -1

    async def tick(self) -> None:
        """One look; a death forgets everything, and the successor begins with a fresh listing."""
        if self.snapshot.refreshed <= self._born_after:
            return
        shown = self.snapshot.indexes.object_body(self.key)
        if shown is None:
            return
        if self._reconciler is None:
            self._reconciler = await self._begin()
        try:
            await self._reconciler.tick(shown)
        except Died as death:
            self.deaths += 1
            self._reconciler, self._born_after = None, self.snapshot.refreshed + 1
            self.errors.append(f"died at {death}")
        except OperatorError as error:
            self.errors.append(f"{type(error).__name__}: {error}")

    async def run_until(self, is_over: Callable[[], bool], *, timeout_seconds: float) -> None:
        async with asyncio.timeout(timeout_seconds):
            while not is_over():
                await self.tick()
                await asyncio.sleep(TICK_SECONDS)

    async def _begin(self) -> Reconciler:
        store = ClusterLease(FakeCluster(), "ns", "lease", duration_seconds=15, timeout_seconds=3)
        identity = f"operator-{self.deaths}"
        leadership = Leadership(store, identity=identity, duration_seconds=15, renew_seconds=1, clock=lambda: 0.0)
        await leadership.campaign()
        prometheus = Target(PlayedPrometheus(self.nodes), SCRAPE)
        return Reconciler(
            Shell(
                cluster=self.cluster,
                sources=Sources(self.snapshot.indexes, {"default": prometheus}, lambda namespace: True),
                leadership=leadership,
                events=EventRecorder(self.cluster, identity),
                gauges=ObjectGauges(),
                runbooks=runbooks.load(),
                identity=identity,
                default_image="image",
                incidents_kept=5,
                incidents_max_age=timedelta(days=1),
                clock=lambda: datetime.now(UTC),
            )
        )
