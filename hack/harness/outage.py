"""One outage from both sides: what the operator wrote down, and what the clients saw."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from harness.kinds import Incident
from harness.load.records import Record, Span, Summary, degraded_span, summarize, within


@dataclass(frozen=True)
class Outage:
    """Times in seconds after the fault; None for what did not happen."""

    injected_at: float  # Unix seconds
    incident: Incident
    records: Sequence[Record]

    @property
    def detected_after(self) -> float | None:
        return self._after(self.incident.status.opened_at)

    @property
    def restarted_after(self) -> float | None:
        acted = [attempt.acted for attempt in self.incident.status.attempts if attempt.acted]
        return self._after(acted[0] if acted else None)

    @property
    def closed_after(self) -> float | None:
        return self._after(self.incident.status.resolved_at)

    @property
    def recovered_after(self) -> float | None:
        """When the last degraded answer came: the clients' end of the outage."""
        span = degraded_span(self.since_fault)
        return None if span is None else span.end - self.injected_at

    @cached_property
    def since_fault(self) -> list[Record]:
        return [record for record in self.records if record.due >= self.injected_at]

    @property
    def during(self) -> Summary:
        """What clients saw from the fault to the last degraded answer."""
        end = self.injected_at + (self.recovered_after or 0.0)
        return summarize(within(self.records, Span(self.injected_at, end)))

    def sentence(self) -> str:
        during = self.during
        return (
            f"detected after {_seconds(self.detected_after)}, restarted after {_seconds(self.restarted_after)}, "
            f"closed after {_seconds(self.closed_after)}; {during.n} queries during the outage, "
            f"{during.degraded} degraded, {during.failed} failed"
        )

    def _after(self, moment: datetime | None) -> float | None:
        return None if moment is None else moment.timestamp() - self.injected_at


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f} s"
