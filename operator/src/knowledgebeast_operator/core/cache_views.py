"""The caches of the service pods together, and why they miss. Pure."""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from knowledgebeast_operator.core.cache_sizes import EMBEDDING, QUERY
from knowledgebeast_operator.core.facts import Facts, Row, Unknown
from knowledgebeast_operator.core.heard import heard_pods
from knowledgebeast_operator.core.histogram import BucketError, read
from knowledgebeast_operator.core.traffic import CacheTraffic, share, total
from knowledgebeast_operator.custom_resource.units import parse_quantity

EVENTS: Final = "cache_events"
RECENT_EVENTS: Final = "recent_cache_events"
DIVERSITY: Final = "query_diversity"
INDEX_CHANGES: Final = "index_changes"
LATE_INDEX_CHANGES: Final = "late_index_changes"
DURATIONS: Final = "query_durations_by_cache"
CPU: Final = "late_service_cpu"
"""Names of queries (`signals.queries`)."""


P99: Final = 0.99
FEWEST_DURATIONS: Final = 100
"""A 99th percentile of fewer is the slowest of them."""


@dataclass(frozen=True, slots=True)
class CacheView:
    """What the caches of all pods met in the window.

    Attributes:
        diversity: distinct queries among the recent ones, on the pod with the fewest: a cache helps there.
        index_changes: how often a pod's index moved on, at most; answers of the old state are not used any more.
        late_index_changes: the same in the last minutes, so that what would be cached now would not last.
    """

    query: CacheTraffic
    embedding: CacheTraffic
    diversity: float
    index_changes: float
    late_index_changes: float

    @property
    def model_call_ratio(self) -> float | None:
        """Queries for which the model had to compute a vector: what neither cache could answer."""
        return share(self.embedding.misses, self.query.lookups)

    def of(self, which: str) -> CacheTraffic:
        return self.query if which == QUERY else self.embedding


def view(facts: Facts, events: str = EVENTS) -> CacheView | Unknown:
    """Everything, or the first signal that is missing.

    Args:
        facts: what is known.
        events: what the caches met in incident 7's window, or (RECENT_EVENTS) in the shorter one of incident 1.
    """
    heard = heard_pods(facts)
    if isinstance(heard, Unknown):
        return heard
    rows: dict[str, tuple[Row, ...]] = {}
    for name in (events, DIVERSITY, INDEX_CHANGES, LATE_INDEX_CHANGES):
        fact = facts.rows(name)
        if isinstance(fact, Unknown):
            return fact
        rows[name] = fact.value
    query, embedding = (_traffic(rows[events], cache) for cache in (QUERY, EMBEDDING))
    diversity, changes, late = (_numbers(rows[name]) for name in (DIVERSITY, INDEX_CHANGES, LATE_INDEX_CHANGES))
    if query is None or embedding is None or not (diversity and changes and late):
        return Unknown(events, "NotANumber", "Counters of the caches are missing, or are not numbers.")
    return CacheView(query, embedding, min(diversity), max(changes), max(late))


def last_start(facts: Facts, since: datetime) -> datetime | None:
    """When the youngest ready service pod was started, if after `since`: its caches were empty then."""
    if isinstance(facts.service_pods, Unknown):
        return None
    containers = [pod.container for pod in facts.service_pods.value if pod.is_ready and pod.container is not None]
    starts = [one.started_at for one in containers if one.started_at is not None and one.started_at > since]
    return max(starts, default=None)


def busiest(facts: Facts) -> float | Unknown:
    """The share of its CPU limit that the busiest service pod has used in the last minutes."""
    fact = facts.rows(CPU)
    if isinstance(fact, Unknown):
        return fact
    used = _numbers(fact.value)
    if not used:
        return Unknown(CPU, "NotANumber", "Nobody knows how much CPU the service pods use.")
    return max(used) / float(parse_quantity(facts.effective_spec.service.resources.limits.cpu))


def p99_cost_milliseconds(facts: Facts) -> float | None:
    """By how much the P99 of all queries is above that of the cached ones; None with too few of either."""
    fact = facts.rows(DURATIONS)
    if isinstance(fact, Unknown):
        return None
    try:
        every = read((row.labels, row.value) for row in fact.value)
        cached = read((row.labels, row.value) for row in fact.value if row.labels.get("cache") == "hit")
    except BucketError:
        return None
    slow, quick = every.quantile(P99), cached.quantile(P99)
    if slow is None or quick is None or min(every.total, cached.total) < FEWEST_DURATIONS:
        return None
    return 1000 * (slow - quick)


def _traffic(rows: tuple[Row, ...], cache: str) -> CacheTraffic | None:
    pairs = [(row.labels, row.value) for row in rows]
    sums = [total(pairs, cache=cache, event=event) for event in ("hit", "miss", "eviction", "ghost_hit")]
    known = [one for one in sums if one is not None]
    return CacheTraffic(*known) if len(known) == len(sums) else None


def _numbers(rows: tuple[Row, ...]) -> tuple[float, ...]:
    return tuple(row.value for row in rows if math.isfinite(row.value))
