"""The operator's own metrics. All series exist from the start, so that an alert on them never meets nothing."""

from collections import Counter as Counts
from collections.abc import Iterable
from typing import Final, TypeAlias

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from knowledgebeast_operator.core.database_escalation import last_refusal
from knowledgebeast_operator.core.ledger import Attempt, IncidentRecord, Outcome, Severity
from knowledgebeast_operator.core.runbook import Runbook
from knowledgebeast_operator.record.protection_metrics import ProtectionGauges
from knowledgebeast_operator.record.signal_metrics import SignalGauge

disable_created_metrics()  # a second series for every counter, which nobody reads

SECONDS: Final = (1, 2, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600, 900, 1800, 3600, 4 * 3600)
"""From the runbook's quickest answer to its longest recovery time."""

BLOCKED_REASONS: Final = frozenset(
    {
        "BudgetExhausted",
        "CoolingDown",
        "Disabled",
        "DryRun",
        "HandedOver",
        "InvalidPolicy",
        "OutsideMaintenanceWindow",
        "AwaitingApproval",
        "ExplainedByCause",
        "OwnWork",
        "Paused",
        "RunbookDisabled",
        "ScheduledTask",
        "TargetBusy",
        # what the last look before an action can find
        "InvalidSpec",
        "ModeChanged",
        "NotApproved",
        "NotReady",
        "ObjectGone",
        "OverlaysChanged",
        "PodChanging",
        "SpecChanged",
        "TargetReplaced",
    }
)
"""Why nothing was done: the guards of `core.guards`, and the executor's own."""

IS_LEADER: Final = Gauge("knowledgebeast_leader", "1 while this process holds the lease, else 0.")
OBJECTS: Final = Gauge("knowledgebeast_objects", "KnowledgeBeasts that this process serves.")
INCIDENT_OPEN: Final = Gauge("knowledgebeast_incident_open", "Incidents that are open now.", ["incident", "severity"])
INCIDENT_ESCALATED: Final = Gauge(
    "knowledgebeast_incident_escalated", "Open incidents for which a human was called.", ["incident", "severity"]
)
RESTORE_BLOCKED: Final = Gauge(
    "knowledgebeast_restore_blocked", "Open incidents whose restore found no backup that it could restore."
)
ATTEMPTS: Final = Counter(
    "knowledgebeast_remediation_attempts_total", "Attempts that have ended.", ["incident", "option", "outcome"]
)
TIME_TO_DETECT: Final = Histogram(
    "knowledgebeast_time_to_detect_seconds",
    "From the first bad sample to the opening of the Incident.",
    ["incident"],
    buckets=SECONDS,
)
TIME_TO_MITIGATE: Final = Histogram(
    "knowledgebeast_time_to_mitigate_seconds",
    "From the first bad sample to the successful end of an attempt.",
    ["incident"],
    buckets=SECONDS,
)
BLOCKED: Final = Counter("knowledgebeast_blocked_total", "Times that a guard began to forbid an action.", ["reason"])
WATCH_STALENESS: Final = Gauge(
    "knowledgebeast_watch_staleness_seconds",
    "For how long the watch of a kind has been silent although there were changes.",
    ["kind"],
)
RECONCILE_DURATION: Final = Histogram(
    "knowledgebeast_reconcile_duration_seconds",
    "Duration of one look at one object.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
RECONCILE_ERRORS: Final = Counter("knowledgebeast_reconcile_errors_total", "Looks at an object that ended in an error.")
CLAIMS_LOST: Final = Counter(
    "knowledgebeast_claims_lost_total", "Decisions dropped because somebody else wrote the Incident first."
)
EVENTS_LOST: Final = Counter("knowledgebeast_events_lost_total", "Kubernetes events that could not be posted.")
OPERAND_CONFLICTS: Final = Gauge(
    "knowledgebeast_operand_conflicts", "Fields of operands that others own, so that they are not as the spec asks."
)


def register(runbooks: Iterable[Runbook], kinds: Iterable[str]) -> None:
    """Makes every series with a known label exist with the value 0."""
    for runbook in runbooks:
        TIME_TO_DETECT.labels(runbook.name)
        TIME_TO_MITIGATE.labels(runbook.name)
        for severity in Severity:
            INCIDENT_OPEN.labels(runbook.name, severity)
            INCIDENT_ESCALATED.labels(runbook.name, severity)
        for option in runbook.options:
            for outcome in Outcome:
                ATTEMPTS.labels(runbook.name, option.name, outcome)
    for reason in sorted(BLOCKED_REASONS):
        BLOCKED.labels(reason)
    for kind in kinds:
        WATCH_STALENESS.labels(kind)


_Series: TypeAlias = tuple[Gauge, tuple[str, ...]]  # with the values of its labels


class ObjectGauges:
    """Gauges that are sums over objects: each object reports its part, and takes it back when it goes.

    `protection` and `signals` have those that each object has for itself.
    """

    def __init__(self) -> None:
        self._parts: dict[str, Counts[_Series]] = {}
        self._conflicts: dict[str, int] = {}
        self.protection = ProtectionGauges()
        self.signals = SignalGauge()

    def report(self, uid: str, incidents: Iterable[IncidentRecord], conflicts: int) -> None:
        """Sets the part of the object with this uid."""
        counts = Counts(series for record in incidents if record.is_open for series in _series_of(record))
        before = self._parts.get(uid, ())
        self._parts[uid] = counts
        self._conflicts[uid] = conflicts
        self._publish({*before, *counts})

    def forget(self, uid: str) -> None:
        """Takes the part of a deleted object back."""
        self._conflicts.pop(uid, None)
        self.protection.forget(uid)
        self.signals.forget(uid)
        self._publish(set(self._parts.pop(uid, ())))

    def _publish(self, changed: Iterable[_Series]) -> None:
        for gauge, labels in changed:
            total = sum(part[gauge, labels] for part in self._parts.values())
            (gauge.labels(*labels) if labels else gauge).set(total)
        OPERAND_CONFLICTS.set(sum(self._conflicts.values()))
        OBJECTS.set(len(self._parts))


def _series_of(record: IncidentRecord) -> Iterable[_Series]:
    """The gauges in which an open incident counts."""
    labels = (record.runbook, str(record.severity))
    yield INCIDENT_OPEN, labels
    if record.call is not None:
        yield INCIDENT_ESCALATED, labels
    if last_refusal(record) is not None:
        yield RESTORE_BLOCKED, ()


def count_transition(before: IncidentRecord | None, after: IncidentRecord) -> None:
    """Counts what a transition that has been written down means: detection, the end of an attempt, a new refusal."""
    if before is None:
        TIME_TO_DETECT.labels(after.runbook).observe(max(0.0, (after.opened_at - after.detected_at).total_seconds()))
    known = {attempt.id: attempt for attempt in before.attempts} if before else {}
    for attempt in after.attempts:
        earlier = known.get(attempt.id)
        if attempt.outcome is not None and (earlier is None or earlier.outcome is None):
            _count_end(after, attempt)
    told = frozenset(before.timeline if before else ())
    for entry in after.timeline:
        if entry not in told and entry.reason in BLOCKED_REASONS:
            BLOCKED.labels(entry.reason).inc()


def _count_end(record: IncidentRecord, attempt: Attempt) -> None:
    ATTEMPTS.labels(record.runbook, attempt.option, attempt.outcome).inc()
    if attempt.outcome is Outcome.SUCCESSFUL and attempt.finished is not None:
        TIME_TO_MITIGATE.labels(record.runbook).observe(
            max(0.0, (attempt.finished - record.detected_at).total_seconds())
        )


def registry() -> CollectorRegistry:
    """The registry that /metrics serves."""
    return REGISTRY
