"""What became of each request, and the summary of many."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """One request. Times are Unix seconds; latency counts from `due`, so a late generator makes the service look
    slower, never faster.
    """

    model_config = ConfigDict(frozen=True)

    number: int
    due: float
    started: float
    latency_seconds: float
    status: int | None  # None: there was no HTTP answer
    degraded: bool | None = None
    cached: bool | None = None
    error: str | None = None

    @property
    def is_failed(self) -> bool:
        """Anything but a 200 with results; a refused or broken connection counts as much as a 503."""
        return self.error is not None

    @property
    def is_degraded(self) -> bool:
        return self.degraded is True

    @property
    def answered_at(self) -> float:
        return self.due + self.latency_seconds


class Summary(BaseModel):
    """What a client of the service saw. Percentiles are by nearest rank over all requests, the failed ones included."""

    model_config = ConfigDict(frozen=True)

    n: int
    failed: int
    degraded: int
    cached: int
    seconds: float  # from the first to the last due time
    rate_per_second: float
    p50_milliseconds: float
    p95_milliseconds: float
    p99_milliseconds: float
    max_milliseconds: float
    start_lag_p99_milliseconds: float  # how late the generator itself was
    first_degraded: float | None  # Unix seconds of the due time
    last_degraded: float | None
    errors: dict[str, int]  # kind of failure -> count

    def sentence(self) -> str:
        return (
            f"{self.n} queries, {self.degraded} degraded, {self.failed} failed; P50 {self.p50_milliseconds:.0f} ms, "
            f"P99 {self.p99_milliseconds:.0f} ms, max {self.max_milliseconds:.0f} ms"
        )


@dataclass(frozen=True)
class Span:
    """A stretch of time in Unix seconds, both ends included."""

    begin: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.begin


def percentile(values: Sequence[float], percent: float) -> float:
    """Nearest rank: the smallest value that at least `percent` % of all are not above. NaN of none."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(percent / 100 * len(values)) - 1)]


def within(records: Iterable[Record], span: Span) -> list[Record]:
    """The records whose due time lies in the span."""
    return [record for record in records if span.begin <= record.due <= span.end]


def degraded_span(records: Iterable[Record]) -> Span | None:
    """From the first to the last degraded answer, as the client's clock saw them; None without one."""
    degraded = [record for record in records if record.is_degraded]
    if not degraded:
        return None
    return Span(min(item.due for item in degraded), max(item.answered_at for item in degraded))


def summarize(records: Sequence[Record]) -> Summary:
    latencies = [record.latency_seconds * 1000 for record in records]
    dues = [record.due for record in records]
    degraded = [record.due for record in records if record.is_degraded]
    seconds = max(dues) - min(dues) if dues else 0.0
    errors: dict[str, int] = {}
    for record in records:
        if record.error is not None:
            errors[record.error] = errors.get(record.error, 0) + 1
    return Summary(
        n=len(records),
        failed=sum(record.is_failed for record in records),
        degraded=len(degraded),
        cached=sum(record.cached is True for record in records),
        seconds=seconds,
        rate_per_second=(len(records) - 1) / seconds if seconds > 0 else 0.0,
        p50_milliseconds=percentile(latencies, 50),
        p95_milliseconds=percentile(latencies, 95),
        p99_milliseconds=percentile(latencies, 99),
        max_milliseconds=max(latencies, default=math.nan),
        start_lag_p99_milliseconds=percentile([(item.started - item.due) * 1000 for item in records], 99),
        first_degraded=min(degraded, default=None),
        last_degraded=max(degraded, default=None),
        errors=errors,
    )


def read_records(file: Path) -> list[Record]:
    """The records of a JSON lines file that may still be growing: a last line without its end is left out."""
    text = file.read_text() if file.exists() else ""
    complete = text[: text.rfind("\n") + 1]
    return [Record.model_validate_json(line) for line in complete.splitlines()]
