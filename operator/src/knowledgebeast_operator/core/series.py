"""Samples of one pod: are they fresh, are they numbers, and for how long has something been true at least."""

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from knowledgebeast_operator.core.facts import Fact, Facts, Known, PerPod, Pod, Sample, Series, Unknown

STALE_SCRAPES: Final = 3
"""A sample older than this many scrape intervals says nothing about now (runbook map, "measured")."""

YOUNG: Final = timedelta(seconds=60)
"""A pod is scraped and has finished a canary round within this time; until then its silence means nothing."""


def fresh_series(fact: Fact[PerPod], signal: str, pod: str, facts: Facts) -> Known[Series] | Unknown:
    """The samples of `pod`, or why they cannot be used: absent, older than three scrape intervals, not a number."""
    if isinstance(fact, Unknown):
        return fact
    series = fact.value.get(pod, ())
    if not series:
        return Unknown(signal, "SeriesMissing", f"{signal} has no samples of pod {pod}.")
    last = series[-1]
    oldest = STALE_SCRAPES * facts.scrape_interval
    age = facts.now - last.at
    if age > oldest:
        return Unknown(
            signal,
            "SampleTooOld",
            f"{signal} of pod {pod} was scraped {age.total_seconds():.0f} s ago, "
            f"longer than three scrape intervals ({oldest.total_seconds():.0f} s).",
        )
    if math.isnan(last.value):
        return Unknown(signal, "NotANumber", f"{signal} of pod {pod} is not a number.")
    return Known(series, last.at)


def run_length(series: Series, predicate: Callable[[float], bool], longest_gap: timedelta) -> timedelta | None:
    """For how long at least the predicate has been true up to the last sample; None when it is false there.

    It counts from the first sample of the run to the last one, so one sample is a length of zero. NaN and a gap longer
    than `longest_gap` end the run: nobody knows what was true in between.
    """
    run = _run(series, predicate, longest_gap)
    return run[-1].at - run[0].at if run else None


def has_held_for(series: Series, predicate: Callable[[float], bool], *, samples: int, after: datetime) -> bool:
    """Whether the last `samples` samples were scraped after `after` and the predicate is true on all of them."""
    last = series[-samples:]
    return len(last) == samples and all(
        sample.at > after and not math.isnan(sample.value) and predicate(sample.value) for sample in last
    )


@dataclass(frozen=True, slots=True)
class Check:
    """What every pod has to report of one signal, and how that is called in a sentence."""

    signal: str
    fact: Fact[PerPod]
    predicate: Callable[[float], bool]
    wanted: str


def first_missing(
    checks: Iterable[Check], pods: Iterable[str], facts: Facts, *, samples: int, after: datetime
) -> Unknown | str | None:
    """The first check that a pod has not passed on its last `samples` samples, all scraped after `after`."""
    for pod, check in itertools.product(pods, tuple(checks)):
        series = fresh_series(check.fact, check.signal, pod, facts)
        if isinstance(series, Unknown):
            return series
        if not has_held_for(series.value, check.predicate, samples=samples, after=after):
            return f"Pod {pod} has not reported {check.wanted} in {samples} samples yet."
    return None


def longest_gap(facts: Facts) -> timedelta:
    """Samples further apart than this are not one run."""
    return STALE_SCRAPES * facts.scrape_interval


def ready_pods(fact: Fact[tuple[Pod, ...]], component: str) -> tuple[Pod, ...] | Unknown:
    """The pods that are ready and not being deleted; Unknown when there are none to ask."""
    if isinstance(fact, Unknown):
        return fact
    ready = tuple(pod for pod in fact.value if pod.is_ready and not pod.is_terminating)
    if not ready:
        return Unknown(
            f"{component} pods",
            "NoReadyPod",
            f"None of {len(fact.value)} {component} pods is ready, so nothing is measured.",
        )
    return ready


def is_young(pod: Pod, now: datetime) -> bool:
    """Whether the pod's container has not been there long enough to be heard of."""
    started = pod.container.started_at if pod.container is not None else None
    return now - (started or pod.created_at) < YOUNG


def _run(series: Series, predicate: Callable[[float], bool], longest_gap: timedelta) -> list[Sample]:
    run: list[Sample] = []
    for sample in reversed(series):
        if math.isnan(sample.value) or not predicate(sample.value):
            break
        if run and run[-1].at - sample.at > longest_gap:
            break
        run.append(sample)
    return run[::-1]
