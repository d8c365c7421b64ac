"""The memory of the service pods: what each holds, what it may hold, and where it is heading. Pure.

Anonymous memory is what counts: a limit kills for it, while files that are mapped or cached give way.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from knowledgebeast_operator.core.facts import Fact, Facts, Row, Series, Unknown
from knowledgebeast_operator.core.series import fresh_series, is_young, ready_pods
from knowledgebeast_operator.core.traffic import totals
from knowledgebeast_operator.core.trend import lasting_growth, time_to_reach
from knowledgebeast_operator.custom_resource.units import parse_bytes

ANON: Final = "memory_anon"
LIMIT: Final = "memory_limit"
CACHE_BYTES: Final = "cache_bytes"
CACHE_GROWTH: Final = "cache_growth"
"""Names of queries (`signals.queries`)."""

ANON_METRIC: Final = "kb_memory_anon_bytes"

MIB: Final = 1024**2
FEWEST_SAMPLES: Final = 20
TREND_SHARE: Final = 0.5
"""A slope is read from at least this share of the window: before, a pod that has just started still loads."""


@dataclass(frozen=True, slots=True)
class PodMemory:
    """One service pod. Sizes in bytes."""

    pod: str
    anon: float
    limit: float
    series: Series
    cache_bytes: Mapping[str, float]  # by cache: query, embedding
    cache_growth: float = 0.0  # bytes a second over the window, both together

    @property
    def share(self) -> float:
        """Of the limit."""
        return self.anon / self.limit

    @property
    def cached(self) -> float:
        """What both caches hold."""
        return sum(self.cache_bytes.values())

    @property
    def swing(self) -> float:
        """How far it has fallen from a peak before, as a share of the limit."""
        peak, deepest = 0.0, 0.0
        for sample in self.series:
            peak = max(peak, sample.value)
            deepest = max(deepest, peak - sample.value)
        return deepest / self.limit

    def growth(self, window: timedelta) -> float | None:
        """Bytes a second over the window that are not given back; None while it does not tell."""
        points = [(sample.at, sample.value) for sample in self.series]
        return lasting_growth(points, fewest=FEWEST_SAMPLES, shortest=window * TREND_SHARE)

    def full_in(self, window: timedelta) -> timedelta | None:
        """When it reaches the limit at this growth; None when it does not, or nobody knows."""
        growth = self.growth(window)
        return None if growth is None else time_to_reach(self.limit, self.anon, growth)


def pods_memory(facts: Facts) -> tuple[PodMemory, ...] | Unknown:
    """The ready service pods that have been heard of; Unknown when there is none, or one is silent."""
    pods = ready_pods(facts.service_pods, "service")
    limits = facts.rows(LIMIT)
    if isinstance(pods, Unknown):
        return pods
    if isinstance(limits, Unknown):
        return limits
    spec_limit = float(parse_bytes(facts.effective_spec.service.resources.limits.memory))
    found: list[PodMemory] = []
    for pod in pods:
        series = fresh_series(facts.series(ANON), ANON_METRIC, pod.name, facts)
        if isinstance(series, Unknown):
            if is_young(pod, facts.now):
                continue
            return series
        found.append(
            PodMemory(
                pod=pod.name,
                anon=series.value[-1].value,
                limit=sum(_of_pod(limits, pod.name, "pod").values()) or spec_limit,
                series=series.value,
                cache_bytes=_of_pod(facts.rows(CACHE_BYTES), pod.name, "cache"),
                cache_growth=sum(_of_pod(facts.rows(CACHE_GROWTH), pod.name, "pod").values()),
            )
        )
    return tuple(found) or Unknown(
        ANON_METRIC, "NoReadyPod", "No service pod has been there long enough to be measured."
    )


def _of_pod(rows: Fact[tuple[Row, ...]], pod: str, label: str) -> Mapping[str, float]:
    """The values of one pod by a label; nothing while they are unknown."""
    if isinstance(rows, Unknown):
        return {}
    return totals(((row.labels, row.value) for row in rows.value if row.labels.get("pod") == pod), label)
