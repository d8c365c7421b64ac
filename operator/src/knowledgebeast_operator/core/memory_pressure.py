"""Signs that the service runs out of memory, and how fast it grows. Pure. (Runbook, incident 3.)"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from knowledgebeast_operator.core.facts import Facts, Pod, Unknown
from knowledgebeast_operator.core.memory_views import MIB, PodMemory
from knowledgebeast_operator.core.runbook import Limits
from knowledgebeast_operator.core.series import longest_gap, run_length
from knowledgebeast_operator.core.trend import lasting_growth, time_to_reach
from knowledgebeast_operator.custom_resource import format_duration

ERRORS: Final = "memory_errors"
RESTARTS: Final = "service_restarts"
QUEUED: Final = "documents_in_flight"
"""Names of queries (`signals.queries`)."""

KILLED: Final = "OOMKilled"
AN_HOUR: Final = timedelta(hours=1)
FEWEST_AFTERWARDS: Final = 10

OUT_OF_MEMORY: Final = "OutOfMemory"
MEMORY_ERRORS: Final = "MemoryErrors"
MEMORY_HIGH: Final = "MemoryHigh"
MEMORY_GROWS: Final = "MemoryGrows"


@dataclass(frozen=True, slots=True)
class Sign:
    """One reason to act: its word, a sentence, for how long at least, and whether it has simply happened."""

    reason: str
    message: str
    held: timedelta
    is_event: bool = False


def signs(facts: Facts, pods: tuple[PodMemory, ...], limits: Limits) -> tuple[Sign, ...] | Unknown:
    """All of them, the worst first; Unknown when a signal is missing and nothing else is bad."""
    errors = facts.rows(ERRORS)
    failed = 0.0 if isinstance(errors, Unknown) else sum(row.value for row in errors.value if row.value > 0)
    found = [
        *(_killed(pod) for pod in killed_since(facts, facts.now - limits.window)),
        *(
            [Sign(MEMORY_ERRORS, f"{failed:.0f} requests found no memory.", timedelta(0), is_event=True)]
            if failed
            else []
        ),
        *(sign for pod in pods if (sign := _high(pod, facts, limits)) is not None),
        *(sign for pod in pods if (sign := _growing(pod, limits)) is not None),
    ]
    return errors if not found and isinstance(errors, Unknown) else tuple(found)


def killed_since(facts: Facts, moment: datetime) -> tuple[Pod, ...]:
    """Service pods whose container was killed for memory after `moment`."""
    if isinstance(facts.service_pods, Unknown):
        return ()
    return tuple(
        pod
        for pod in facts.service_pods.value
        if pod.container is not None
        and pod.container.last_exit_reason == KILLED
        and pod.container.last_finished_at is not None
        and pod.container.last_finished_at > moment
    )


def kills_in_an_hour(facts: Facts) -> int:
    """Kills of containers, as far as they can be told: restarts within the hour of those that were killed last."""
    restarts = facts.rows(RESTARTS)
    rows = () if isinstance(restarts, Unknown) else restarts.value
    by_pod = {row.labels.get("pod", ""): row.value for row in rows if math.isfinite(row.value)}
    return sum(max(1, round(by_pod.get(pod.name, 1.0))) for pod in killed_since(facts, facts.now - AN_HOUR))


def leak_megabytes_per_hour(pods: Iterable[PodMemory], limits: Limits) -> float:
    """The fastest growth of a pod beside its caches; 0 when none grows, or nobody knows yet."""
    full = [pod for pod in pods if pod.share >= limits.threshold("trendShare")]
    growths = [growth - pod.cache_growth for pod in full if (growth := pod.growth(limits.window)) is not None]
    return max([0.0, *growths]) * AN_HOUR.total_seconds() / MIB


def growth_since(pod: PodMemory, moment: datetime, shortest: timedelta) -> float | None:
    """Bytes a second after `moment`; None while that is too short a time to tell."""
    points = [(sample.at, sample.value) for sample in pod.series if sample.at > moment]
    return lasting_growth(points, fewest=FEWEST_AFTERWARDS, shortest=shortest)


def is_of_caches(pod: PodMemory, limits: Limits) -> bool:
    """Whether the caches hold much of the memory, or grow with it."""
    growth = pod.growth(limits.window) or 0.0
    grows_with_it = growth > 0 and pod.cache_growth >= growth * limits.threshold("cacheGrowthShare")
    return pod.cached >= limits.threshold("cacheShare") * pod.anon or grows_with_it


def reaches_limit(pod: PodMemory, growth: float | None, limits: Limits) -> timedelta | None:
    """In what time, if it is soon; only from a share of the limit on: what fills up at first is no leak."""
    if growth is None or pod.share < limits.threshold("trendShare"):
        return None
    full_in = time_to_reach(pod.limit, pod.anon, growth)
    soon = timedelta(hours=limits.threshold("trendHours"))
    return full_in if full_in is not None and full_in <= soon else None


def good_for(facts: Facts, pods: tuple[PodMemory, ...], limits: Limits) -> timedelta:
    """For how long at least no pod has been above the share of its limit."""
    most = limits.threshold("memoryShare")
    lengths = [
        run_length(pod.series, lambda size, pod=pod: size <= most * pod.limit, longest_gap(facts)) for pod in pods
    ]
    return min((length or timedelta(0) for length in lengths), default=timedelta(0))


def _killed(pod: Pod) -> Sign:
    at = pod.container.last_finished_at if pod.container is not None else None
    when = f" at {at:%H:%M:%S %Z}" if at is not None else ""
    return Sign(OUT_OF_MEMORY, f"{pod.name} was killed for its memory{when}.", timedelta(0), is_event=True)


def _high(pod: PodMemory, facts: Facts, limits: Limits) -> Sign | None:
    most = limits.threshold("memoryShare")
    held = run_length(pod.series, lambda size: size > most * pod.limit, longest_gap(facts))
    if held is None:
        return None
    told = f"{pod.pod} uses {pod.share:.0%} of its memory limit, for {format_duration(held)}."
    return Sign(MEMORY_HIGH, told, held)


def _growing(pod: PodMemory, limits: Limits) -> Sign | None:
    growth = pod.growth(limits.window)
    full_in = reaches_limit(pod, growth, limits)
    if growth is None or full_in is None:
        return None
    rate = growth * AN_HOUR.total_seconds() / MIB
    told = f"{pod.pod} grows by {rate:.0f} MiB an hour and reaches its limit in {format_duration(full_in)}."
    return Sign(MEMORY_GROWS, told, limits.hold)
