"""How slow queries are, and the calls that they are made of: histograms over the window and over its last minutes."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from knowledgebeast_operator.core.facts import Facts, Row, Unknown
from knowledgebeast_operator.core.heard import each_pod
from knowledgebeast_operator.core.histogram import BucketError, Histogram, merged, read

QUERY: Final = "kb_query_duration_seconds"
CHROMA: Final = "kb_chroma_request_duration_seconds"
EMBEDDING: Final = "kb_embedding_duration_seconds"

QUERIES: Final = "query_durations"
RECENT_QUERIES: Final = "query_durations_recent"
CHROMA_CALLS: Final = "chroma_call_durations"
EMBEDDINGS: Final = "embedding_durations"
"""Rows by pod and le: increases of buckets, over the window or over RECENT."""

RECENT: Final = timedelta(minutes=2)
"""The last part of the window: shows whether it is slow now, and after an action nothing from before it."""

P99: Final = 0.01
"""More answers than this above a limit: P99 is above it."""

P95: Final = 0.05

FEWEST_CALLS: Final = 60
"""P95 of fewer calls would rest on two or three of them."""


@dataclass(frozen=True, slots=True)
class Durations:
    """One histogram per pod that can be heard."""

    by_pod: Mapping[str, Histogram]

    @property
    def all(self) -> Histogram:
        return merged(self.by_pod.values())


@dataclass(frozen=True, slots=True)
class Latency:
    """Answers to queries, over all pods: of the whole window, and of its last minutes."""

    whole: Histogram
    recent: Histogram
    by_pod: Mapping[str, Histogram]  # of the whole window

    @property
    def earlier(self) -> Histogram:
        """The window without its last minutes."""
        return self.whole.without(self.recent)

    def slow_pods(self, seconds: float) -> tuple[str, ...]:
        """Pods whose P99 is above the limit, if the others are clear of it (below half of the share); else none.

        What all pods use (Chroma, the cache's size, their number) does not make some of them slow and others not.
        """
        busy = {pod: one.share_above(seconds) for pod, one in self.by_pod.items() if one.total >= FEWEST_CALLS}
        slow = tuple(sorted(pod for pod, share in busy.items() if share > P99))
        clear = [pod for pod, share in busy.items() if share <= P99 / 2]
        return slow if slow and len(slow) + len(clear) == len(busy) and clear else ()


def latency(facts: Facts) -> Latency | Unknown:
    """What users waited; Unknown when a pod cannot be heard or its rows are no histogram."""
    whole, recent = durations(facts, QUERIES, QUERY), durations(facts, RECENT_QUERIES, QUERY)
    if isinstance(whole, Unknown):
        return whole
    if isinstance(recent, Unknown):
        return recent
    return Latency(whole.all, recent.all, whole.by_pod)


def durations(facts: Facts, query: str, signal: str) -> Durations | Unknown:
    """The histogram of each pod that can be heard."""

    def histogram(rows: tuple[Row, ...]) -> Histogram | Unknown:
        try:
            return read((row.labels, row.value) for row in rows)
        except BucketError as error:
            return Unknown(signal, "NoHistogram", f"{signal} of pod {rows[0].labels.get('pod')}: {error}.")

    found = each_pod(facts, query, signal, histogram)
    return found if isinstance(found, Unknown) else Durations(found.value)


def is_slower(histogram: Histogram, milliseconds: float) -> bool:
    """Whether P95 is above this, from enough calls."""
    return histogram.total >= FEWEST_CALLS and histogram.share_above(milliseconds / 1000) > P95


def shown(histogram: Histogram, share: float) -> str:
    """A quantile for people, such as `P99 about 640 ms`."""
    seconds = histogram.quantile(share)
    return f"P{share * 100:.0f} unknown" if seconds is None else f"P{share * 100:.0f} about {seconds * 1000:.0f} ms"
