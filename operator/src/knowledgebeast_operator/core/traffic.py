"""What requests met in a window: sums and ratios of counters' increases. Pure, of plain (labels, value) pairs.

Ratios come from counters over the window, summed over the pods (runbook map, "Enough evidence"): a ratio of each pod
would weigh an idle pod as much as a busy one, and a gauge since the start hides what happens now.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

LabelledValue: TypeAlias = tuple[Mapping[str, str], float]


def total(rows: Iterable[LabelledValue], **labels: str) -> float | None:
    """The sum over the rows with these labels; None when there are none, or one is not a number."""
    values = [value for row, value in rows if all(row.get(name) == wanted for name, wanted in labels.items())]
    return math.fsum(values) if values and all(map(math.isfinite, values)) else None


def totals(rows: Iterable[LabelledValue], label: str) -> Mapping[str, float]:
    """The sums by a label's value, of the numbers among them; rows without the label are left out."""
    sums: dict[str, float] = {}
    for row, value in rows:
        if label in row and math.isfinite(value):
            sums[row[label]] = sums.get(row[label], 0.0) + value
    return sums


def share(part: float, whole: float) -> float | None:
    """Part of whole, 0 to 1; None for nothing of nothing. Increases are extrapolated, so 1.02 is 1."""
    return min(1.0, max(0.0, part / whole)) if whole > 0 else None


@dataclass(frozen=True, slots=True)
class CacheTraffic:
    """What one cache met in the window, over all pods; counts, which Prometheus extrapolates to fractions."""

    hits: float
    misses: float
    evictions: float = 0.0
    ghost_hits: float = 0.0  # misses on what had been pushed out a short while before

    @property
    def lookups(self) -> float:
        return self.hits + self.misses

    @property
    def hit_ratio(self) -> float | None:
        """Hits among the lookups; None without any."""
        return share(self.hits, self.lookups)

    @property
    def ghost_share(self) -> float | None:
        """Lookups that a cache of twice the size would have answered too (its ghost list is as long as the cache)."""
        return share(self.ghost_hits, self.lookups)

    @property
    def eviction_share(self) -> float | None:
        """Entries pushed out for each entry put in. Near 1 the cache is full, near 0 it still fills."""
        return share(self.evictions, self.misses)
