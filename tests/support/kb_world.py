"""A tiny world in which operators run `decide` and `transition` for hours within milliseconds. Pure Python, no mocks.

The world has a Chroma, two service pods that scrape-wise tell about it, and a store of incidents that refuses writes
with an old resourceVersion. An operator's tick is a generator that stops at every point where a process can die:
closing it there is the crash.
"""

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from kb_facts import CLOSED, NOW, OPEN, SCRAPE, container, facts, nodes, pod, unknown, waiting
from knowledgebeast_operator.core.decide import decide
from knowledgebeast_operator.core.decision import Begin, Conclude, Decision, Escalate, Open, Perform
from knowledgebeast_operator.core.escalation_path import STILL_OPEN
from knowledgebeast_operator.core.facts import Facts, Known, PerPod, Pod, Sample
from knowledgebeast_operator.core.journal import merge
from knowledgebeast_operator.core.ledger import IncidentRecord, Journal
from knowledgebeast_operator.core.policy import Policy
from knowledgebeast_operator.core.situation import assess
from knowledgebeast_operator.core.transition import opened, transition
from knowledgebeast_operator.custom_resource import names
from knowledgebeast_operator.runbooks.chroma_unreachable import RUNBOOK

SERVICE_PODS = ("demo-a", "demo-b")
CANARY_INTERVAL = timedelta(seconds=10)
STARTUP = timedelta(seconds=5)
KEPT = timedelta(minutes=3)


class ConflictError(Exception):
    """The write was made with an old resourceVersion."""


@dataclass
class Store:
    """Incidents by name, each with a version; and the journal in the object's status."""

    records: dict[str, tuple[IncidentRecord, int]] = field(default_factory=dict[str, tuple[IncidentRecord, int]])
    journal: Journal = field(default_factory=Journal)

    def latest(self) -> tuple[IncidentRecord, int] | None:
        return max(self.records.values(), key=lambda item: item[0].number, default=None)

    def create(self, record: IncidentRecord) -> None:
        if record.name in self.records:
            raise ConflictError
        self.records[record.name] = (record, 1)

    def update(self, record: IncidentRecord, version: int, now: datetime) -> None:
        if self.records[record.name][1] != version:
            raise ConflictError
        self.records[record.name] = (record, version + 1)
        self.journal = merge(self.journal, record.attempts, now)


@dataclass
class World:
    """Time passes by `advance`. `hang` breaks Chroma; whether a restart cures it is the world's secret."""

    now: datetime = NOW
    is_hung: bool = False
    restart_cures: bool = True
    has_signals: bool = True
    is_crashed: bool = False  # the kubelet waits before it starts the container again
    longest_probe_wait: timedelta = CANARY_INTERVAL  # an open breaker asks this rarely
    policy: Policy = field(default_factory=Policy)
    store: Store = field(default_factory=Store)
    generation: int = 1
    started_at: datetime = NOW - timedelta(days=1)
    deletions: list[tuple[str, datetime]] = field(default_factory=list[tuple[str, datetime]])
    decisions: list[Decision] = field(default_factory=list[Decision])
    _breaker: list[Sample] = field(default_factory=list[Sample])
    _rounds: list[Sample] = field(default_factory=list[Sample])
    _is_answering: bool = True
    _last_round: datetime = NOW

    def __post_init__(self) -> None:
        for _ in range(15):
            self.advance()

    @property
    def uid(self) -> str:
        return f"uid-chroma-{self.generation}"

    @property
    def is_up(self) -> bool:
        return not self.is_hung and not self.is_crashed and self.now >= self.started_at + STARTUP

    def advance(self) -> None:
        """One scrape interval later: the service has asked Chroma, and Prometheus has scraped the service."""
        self.now += SCRAPE
        if self.now - self._last_round >= (CANARY_INTERVAL if self._is_answering else self.longest_probe_wait):
            self._last_round, self._is_answering = self.now, self.is_up
        self._breaker.append(Sample(self.now, CLOSED if self._is_answering else OPEN))
        self._rounds.append(Sample(self.now, self._last_round.timestamp()))
        self._breaker = [sample for sample in self._breaker if self.now - sample.at <= KEPT]
        self._rounds = [sample for sample in self._rounds if self.now - sample.at <= KEPT]

    def start_again(self) -> None:
        """The kubelet starts the crashed container."""
        self.is_crashed, self.started_at = False, self.now

    def delete_pod(self, uid: str) -> None:
        """With a uid precondition, as the executor does: a namesake is left alone."""
        if uid != self.uid:
            return
        self.deletions.append((uid, self.now))
        self.generation += 1
        self.started_at = self.now
        if self.restart_cures:
            self.is_hung = False

    def facts(self) -> Facts:
        breaker = tuple(self._breaker)
        canary = tuple(Sample(sample.at, 1.0 if sample.value == CLOSED else 0.0) for sample in breaker)
        degraded = tuple(Sample(sample.at, 0.0 if sample.value == CLOSED else 1.0) for sample in breaker)
        snapshot = facts(
            now=self.now,
            chroma_pods=Known((self._chroma_pod(),), self.now),
            nodes=nodes(),
            canary_success_ratio=self._per_pod(canary),
            breaker_state=self._per_pod(breaker),
            degraded_mode=self._per_pod(degraded),
            canary_timestamp=self._per_pod(tuple(self._rounds)),
        )
        return snapshot if self.has_signals else replace(snapshot, breaker_state=unknown())

    def _chroma_pod(self) -> Pod:
        running = container(started_at=self.started_at)
        crashed = waiting("CrashLoopBackOff", "back-off 10s", restart_count=1, last_exit_code=137)
        now = crashed if self.is_crashed else running
        return pod(uid=self.uid, is_ready=self.is_up, created_at=self.started_at, container=now)

    def _per_pod(self, series: tuple[Sample, ...]) -> Known[PerPod]:
        return Known(dict.fromkeys(SERVICE_PODS, series), self.now)


def tick(world: World, operator: str) -> Generator[str]:
    """One tick of one operator; every yield is a moment at which it can die."""
    latest = world.store.latest()
    record, version = latest if latest is not None and latest[0].is_open else (None, 0)
    decision = decide(
        assess(world.facts(), RUNBOOK, world.policy, incident=record, journal=world.store.journal, operator=operator)
    )
    world.decisions.append(decision)
    yield "decided"
    if isinstance(decision, Open):
        number = latest[0].number + 1 if latest is not None else 1
        name = names.incident_name("demo", RUNBOOK.name, number)
        world.store.create(opened(RUNBOOK, decision, name=name, number=number, now=world.now))
    elif record is not None:
        if isinstance(decision, Perform):
            world.delete_pod(decision.attempt.action.target.uid)
            yield "acted"
        world.store.update(transition(record, decision, world.now), version, world.now)
    yield "written"


def run_tick(world: World, operator: str = "operator-a", *, dies_at: str | None = None) -> bool:
    """Runs a tick, or lets the operator die at a point of it; says whether it died."""
    return any(point == dies_at for point in tick(world, operator))


def run(world: World, ticks: int, operator: str = "operator-a") -> None:
    for _ in range(ticks):
        run_tick(world, operator)
        world.advance()


def begun(world: World) -> int:
    return sum(isinstance(decision, Begin) for decision in world.decisions)


def escalations(world: World) -> int:
    """Calls for a reason; those by the clock alone are not counted."""
    calls = (decision.escalation for decision in world.decisions if isinstance(decision, Escalate))
    return sum(call.reason != STILL_OPEN for call in calls)


def concluded(world: World) -> list[Conclude]:
    return [decision for decision in world.decisions if isinstance(decision, Conclude)]
