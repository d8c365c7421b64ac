"""Answers of the service by who is to blame for them, from increases of `http_requests_total` over a window. Pure.

5xx is the service's fault and 4xx the client's; they are counted apart. A 507 is neither: a volume is full, which is an
incident of its own (5), and the service does well to refuse documents then. Ratios are of sums over pods, never means
of ratios. What the cluster asks by itself (probes, scrapes) is not in the rows.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from knowledgebeast_operator.core.facts import Pod, Row, Sample, Series

ANSWERS: Final = "answers"
"""Rows by pod, path and status: the increase over the window."""

ANSWER_HISTORY: Final = "answer_history"
SERVER_ERROR_HISTORY: Final = "server_error_history"
"""Rows by pod and time: the same increase as it was every HISTORY_STEP of the last half hour; the latter of 5xx."""

UNKNOWN_REVISION: Final = ""


INSUFFICIENT_STORAGE: Final = "507"


def is_server_error(status: str) -> bool:
    """Whether an answer of this status counts as a failure of the service."""
    return status.startswith("5") and status != INSUFFICIENT_STORAGE


@dataclass(frozen=True, slots=True)
class Traffic:
    """Answers in a window, as `increase` estimates them."""

    requests: float = 0.0
    server_errors: float = 0.0
    client_errors: float = 0.0

    @property
    def server_error_ratio(self) -> float:
        """Share of 5xx; 0 without requests."""
        return self.server_errors / self.requests if self.requests > 0 else 0.0

    @property
    def client_error_ratio(self) -> float:
        """Share of 4xx; 0 without requests."""
        return self.client_errors / self.requests if self.requests > 0 else 0.0

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(
            self.requests + other.requests,
            self.server_errors + other.server_errors,
            self.client_errors + other.client_errors,
        )


def count(rows: Iterable[Row], pods: Collection[str] | None = None) -> Traffic:
    """All answers, or those of these pods."""
    wanted = (row for row in rows if pods is None or row.labels.get("pod", "") in pods)
    return sum((_traffic(row) for row in wanted), Traffic())


def by_revision(rows: Iterable[Row], pods: Iterable[Pod]) -> Mapping[str, Traffic]:
    """The answers of each revision whose pods are there."""
    revisions = {pod.name: pod.revision for pod in pods}
    found: dict[str, Traffic] = defaultdict(Traffic)
    for row in rows:
        found[revisions.get(row.labels.get("pod", ""), UNKNOWN_REVISION)] += _traffic(row)
    return found


def most_frequent(rows: Iterable[Row], status_class: str, *, limit: int = 3) -> str:
    """The paths and statuses with the most answers of a class (`4` or `5`), such as `/api/v1/ingest 503: 12`."""
    counts: dict[str, float] = defaultdict(float)
    for row in rows:
        status = row.labels.get("status", "")
        if status.startswith(status_class):
            counts[f"{row.labels.get('path', '')} {status}"] += row.value
    listed = sorted(((name, value) for name, value in counts.items() if value >= 0.5), key=lambda item: -item[1])
    return ", ".join(f"{name}: {value:.0f}" for name, value in listed[:limit])


def ratio_history(answers: Iterable[Row], server_errors: Iterable[Row], *, minimum: float) -> Series:
    """The 5xx ratio at each moment at which there were at least `minimum` answers in the window before it."""
    requests, errors = _by_moment(answers), _by_moment(server_errors)
    return tuple(
        Sample(at, errors.get(at, 0.0) / requests[at]) for at in sorted(requests) if requests[at] >= max(minimum, 1.0)
    )


def total_history(rows: Iterable[Row]) -> Series:
    """The sum over pods at each moment."""
    return tuple(Sample(at, value) for at, value in sorted(_by_moment(rows).items()))


def _by_moment(rows: Iterable[Row]) -> Mapping[datetime, float]:
    found: dict[datetime, float] = defaultdict(float)
    for row in rows:
        found[row.at] += row.value
    return found


def _traffic(row: Row) -> Traffic:
    status = row.labels.get("status", "")
    return Traffic(
        requests=row.value,
        server_errors=row.value if is_server_error(status) else 0.0,
        client_errors=row.value if status.startswith("4") else 0.0,
    )
