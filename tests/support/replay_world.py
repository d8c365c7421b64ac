"""A KnowledgeBeast made of numbers: what its signals read from tick to tick, what is broken, and what cures it.

A `World` gives `Facts` at any moment and carries out actions on itself; nothing else is simulated. A fault is a set of
readings and objects that stays until the right action, or until it clears by itself.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from kb_facts import NOW, SCRAPE, container, facts, pod
from knowledgebeast_operator.core.actions import (
    Action,
    RestartPod,
    RollingRestart,
    RunFencedTask,
    RunTask,
    SetFields,
)
from knowledgebeast_operator.core.facts import Facts, Known, PerPod, Pod, Row, Sample
from knowledgebeast_operator.core.ledger import Attempt, TaskReport
from knowledgebeast_operator.core.network import Difference, Network
from knowledgebeast_operator.core.overlays import Fence, Overlays
from knowledgebeast_operator.custom_resource import Spec

KEPT: Final = timedelta(minutes=3)
TASK_TICKS: Final = 3
SERVICE_PODS: Final = ("demo-a", "demo-b")

HEALTHY: Final[Mapping[str, float]] = {
    "breaker_state": 0.0,
    "canary_success_ratio": 1.0,
    "degraded_mode": 0.0,
    "database_errors": 0.0,
    "database_up": 1.0,
}
"""What each series reads while nothing is wrong. `canary_timestamp` is made from the clock."""


GIBIBYTE: Final = 1024.0**3
ROWS: Final[Mapping[str, tuple[Row, ...]]] = {
    "collection_damaged": tuple(Row({"pod": name, "project": "books"}, 0.0, NOW) for name in SERVICE_PODS),
    "node_memory": (Row({"node": "node-1"}, 64 * GIBIBYTE, NOW),),
    "node_memory_used": (Row({"node": "node-1"}, 8 * GIBIBYTE, NOW),),
    "node_cpu_share": (Row({"node": "node-1"}, 0.3, NOW),),
}
"""What the other queries bring then."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is broken.

    Attributes:
        readings: what series read while it lasts, by the name of the query, on every service pod.
        rows: other values, by the name of the query.
        chroma: Chroma's pod as the cluster shows it, made from the healthy one.
        difference: what somebody changed in our Service or policies.
        reports: what maintenance tasks say, by task; a task that is not here succeeds.
        is_cured_by: whether an action ends it.
    """

    readings: Mapping[str, float] = field(default_factory=dict[str, float])
    rows: Mapping[str, tuple[Row, ...]] = field(default_factory=dict[str, tuple[Row, ...]])
    chroma: Callable[[Pod], Pod] = lambda pod: pod
    difference: Difference | None = None
    reports: Mapping[str, TaskReport] = field(default_factory=dict[str, TaskReport])
    is_cured_by: Callable[[Action], bool] = lambda action: False


@dataclass
class World:
    """Time passes by `advance`, one scrape after the other."""

    now: datetime = NOW
    fault: Fault | None = None
    step: timedelta = SCRAPE
    spec: Spec = field(default_factory=Spec)
    overlays: Overlays = field(default_factory=Overlays)
    done: list[tuple[datetime, Attempt]] = field(default_factory=list[tuple[datetime, Attempt]])
    _running: dict[str, int] = field(default_factory=dict[str, int])
    _service_since: datetime = NOW - timedelta(days=1)
    _chroma_since: datetime = NOW - timedelta(days=1)
    _chroma_number: int = 1
    _samples: dict[str, list[Sample]] = field(default_factory=dict[str, list[Sample]])

    def __post_init__(self) -> None:
        for _ in range(KEPT // self.step):
            self.advance()

    def advance(self) -> None:
        """One scrape later. While the service is fenced off, there is nobody to scrape."""
        self.now += self.step
        broken = (self.fault or Fault()).readings
        readings = {name: broken.get(name, value) for name, value in HEALTHY.items()}
        readings["canary_timestamp"] = self.now.timestamp() - 1
        for name, value in readings.items():
            kept = [sample for sample in self._samples.get(name, ()) if self.now - sample.at <= KEPT]
            if self.overlays.fence is None:
                kept.append(Sample(self.now, value))
            self._samples[name] = kept

    def facts(self) -> Facts:
        """What is known now."""
        fault = self.fault or Fault()
        chroma = self._pod("demo-chroma-0", f"uid-chroma-{self._chroma_number}", self._chroma_since)
        differences = (fault.difference,) if fault.difference else ()
        series: dict[str, object] = {name: self._per_pod(samples) for name, samples in self._samples.items()}
        service = tuple(self._pod(name, f"uid-{name}", self._service_since) for name in SERVICE_PODS)
        is_fenced = self.overlays.fence is not None
        return facts(
            now=self.now,
            scrape_interval=self.step,
            spec=self.spec,
            overlays=self.overlays,
            **series,  # type: ignore[arg-type]
            service_pods=Known(() if is_fenced else service, self.now),
            chroma_pods=Known((fault.chroma(chroma),), self.now),
            network=Known(Network(differences, ready_endpoints=1), self.now),
            fence=self.overlays.fence,
            rows_by_name={
                name: Known(tuple(replace(row, at=self.now) for row in found), self.now)
                for name, found in {**ROWS, **fault.rows}.items()
            },
        )

    def _pod(self, name: str, uid: str, since: datetime) -> Pod:
        return pod(name, uid, created_at=since, container=container(started_at=since))

    def _per_pod(self, samples: list[Sample]) -> Known[PerPod]:
        return Known(dict.fromkeys(SERVICE_PODS, tuple(samples)), self.now)

    def perform(self, incident: str, runbook: str, attempt: Attempt) -> TaskReport | bool:
        """Carries an attempt out: its report, whether it is done at all, or that it is still at work (False)."""
        action = attempt.action
        if isinstance(action, RunTask | RunFencedTask | RollingRestart) and not self._is_over(attempt, incident):
            return False
        self.done.append((self.now, attempt))
        self._put(action, incident, runbook, attempt)
        fault = self.fault
        if fault is not None and fault.is_cured_by(action):
            self.fault = None
        if isinstance(action, RunTask | RunFencedTask):
            succeeded = TaskReport(ok=True, message=f"`{action.task}` succeeded.")
            return fault.reports.get(action.task, succeeded) if fault is not None else succeeded
        return True

    def undo(self, incident: str, runbook: str, attempt: Attempt) -> None:
        """Carries out the inverse."""
        assert attempt.inverse is not None
        self._put(attempt.inverse, incident, runbook, attempt)

    def _is_over(self, attempt: Attempt, incident: str) -> bool:
        left = self._running.setdefault(attempt.id, TASK_TICKS)
        self._running[attempt.id] = left - 1
        is_over = left <= 0
        if isinstance(attempt.action, RunFencedTask):
            fence = None if is_over else Fence(incident=incident, attempt=attempt.id, at=self.now)
            self.overlays = self.overlays.model_copy(update={"fence": fence})
            self._service_since = self.now
        return is_over

    def _put(self, action: Action, incident: str, runbook: str, attempt: Attempt) -> None:
        match action:
            case RestartPod(target=target) if target.uid == f"uid-chroma-{self._chroma_number}":
                self._start_chroma()
            case SetFields():
                self.overlays = self.overlays.changed(attempt, incident, runbook, action, self.spec)
                if any(path.startswith("chroma.") for path in action.fields):
                    self._start_chroma()
            case _:
                pass

    def _start_chroma(self) -> None:
        self._chroma_number += 1
        self._chroma_since = self.now
