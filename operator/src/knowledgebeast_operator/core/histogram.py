"""How slow answers were in a window, read from the buckets of a Prometheus histogram. Pure.

What a threshold is compared with is a bucket's edge: the share of observations above an edge is counted, while a
quantile between two edges is guessed by interpolation. So quantiles are for people, shares are for decisions: "P99 is
above 500 ms" is "more than 1 % took longer than 0.5 s".
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from knowledgebeast_operator.core.traffic import LabelledValue

EDGE: Final = "le"
"""Prometheus' label for a bucket's upper edge."""


class BucketError(ValueError):
    """The rows are not the buckets of one histogram; the message says what is wrong with them."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Observations in a window: how many were not slower than each edge.

    Attributes:
        counts: cumulative counts by upper edge in seconds, ascending; the last edge is infinite. They have fractions,
            because Prometheus extrapolates increases.
    """

    counts: Mapping[float, float]

    @property
    def total(self) -> float:
        """How many observations there were."""
        return self.counts[math.inf]

    def edge_from(self, seconds: float) -> float:
        """The lowest edge that is not below this; what is above it is slower than `seconds` for certain."""
        return min(edge for edge in self.counts if edge >= seconds or math.isclose(edge, seconds))

    def share_above(self, seconds: float) -> float:
        """The share of observations slower than that edge, 0 to 1; 0 when there were none.

        Above the last finite edge nothing is known, so the share there is 0.
        """
        if not self.total > 0:
            return 0.0
        return max(0.0, self.total - self.counts[self.edge_from(seconds)]) / self.total

    def quantile(self, share: float) -> float | None:
        """Seconds that this share (above 0) of the observations did not exceed, interpolated as Prometheus does.

        None without observations. In the last bucket it is that bucket's lower edge: at least this much.
        """
        if not self.total > 0:
            return None
        rank, lower, below = share * self.total, 0.0, 0.0
        for edge, count in self.counts.items():
            if count >= rank:
                return lower if math.isinf(edge) else lower + (edge - lower) * (rank - below) / (count - below)
            if math.isfinite(edge):
                lower, below = edge, count
        return lower

    def without(self, part: "Histogram") -> "Histogram":
        """What is left of this window without a part of it, such as its last minutes."""
        edges = sorted(self.counts.keys() & part.counts.keys())
        return _cumulative({edge: max(0.0, self.counts[edge] - part.counts[edge]) for edge in edges})


def read(rows: Iterable[LabelledValue]) -> Histogram:
    """The histogram of rows that differ in the label `le`; several rows of one edge are summed.

    Raises:
        BucketError: no rows, no infinite edge, an edge or a count that is not a number.
    """
    sums: dict[float, float] = {}
    for labels, value in rows:
        edge = _edge(labels.get(EDGE, ""))
        if not math.isfinite(value) or value < 0:
            raise BucketError(f"the bucket {labels[EDGE]} holds {value:g}")
        sums[edge] = sums.get(edge, 0.0) + value
    if math.inf not in sums:
        raise BucketError("there is no bucket +Inf, which counts all")
    return _cumulative(sums)


def merged(parts: Iterable[Histogram]) -> Histogram:
    """All observations together, by the edges that every part has: versions of a program may differ in theirs."""
    every = tuple(parts)
    edges = [edge for edge in every[0].counts if all(edge in part.counts for part in every)] if every else [math.inf]
    return _cumulative({edge: math.fsum(part.counts[edge] for part in every) for edge in edges})


def _edge(text: str) -> float:
    try:
        edge = float(text)
    except ValueError:
        edge = math.nan
    if math.isnan(edge):
        raise BucketError(f"{text!r} is no edge of a bucket")
    return edge


def _cumulative(counts: Mapping[float, float]) -> Histogram:
    """In order, and never falling: each bucket's increase is extrapolated by itself."""
    highest, ordered = 0.0, dict[float, float]()
    for edge in sorted(counts):
        highest = max(highest, counts[edge])
        ordered[edge] = highest
    return Histogram(ordered)
