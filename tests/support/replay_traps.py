"""Ways in which signals lie or fall silent (runbook map, "A condition is believed only when it is measured")."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, TypeAlias

from knowledgebeast_operator.core.facts import Fact, Facts, Known, PerPod, Row, Sample, Series, Unknown
from replay import Trap
from replay_world import HEALTHY, SERVICE_PODS

PerPodFact: TypeAlias = Fact[PerPod]
RowsFact: TypeAlias = Fact[tuple[Row, ...]]

SERIES: Final = (*HEALTHY, "canary_timestamp")
"""Those that are fields of `Facts`; the others are found by their name."""


def prometheus_down(facts: Facts) -> Facts:
    """Nobody answers."""
    unknown = _unknown("PrometheusUnreachable")
    return _changed(facts, lambda _name, _fact: unknown, lambda _fact: unknown, error_ratio=unknown)


def absent(facts: Facts) -> Facts:
    """The queries answer, without a series: the metrics were renamed, or nobody scrapes the pods."""
    nothing: Known[PerPod] = Known({}, facts.now)
    unknown = _unknown("SeriesMissing")
    return _changed(facts, lambda _name, _fact: nothing, lambda _fact: unknown, error_ratio=unknown)


def stale(facts: Facts) -> Facts:
    """The last scrape was more than three intervals ago."""
    oldest = facts.now - 3 * facts.scrape_interval
    return _each(
        facts,
        lambda _name, _pod, series: tuple(sample for sample in series if sample.at < oldest),
        lambda row: replace(row, at=min(row.at, oldest - facts.scrape_interval)),
    )


def not_a_number(facts: Facts) -> Facts:
    """The last sample is NaN."""
    return _each(
        facts,
        lambda _name, _pod, series: (*series[:-1], Sample(series[-1].at, math.nan)) if series else (),
        lambda row: replace(row, value=math.nan),
    )


def duplicate(facts: Facts) -> Facts:
    """Every sample comes twice, as with two Prometheus servers behind one address."""
    return _each(facts, lambda _name, _pod, series: tuple(sample for sample in series for _ in range(2)))


def pods_disagree(facts: Facts) -> Facts:
    """One of the two service pods sees nothing wrong."""
    return _each(facts, lambda name, pod, series: _well(name, series) if pod == SERVICE_PODS[-1] else series)


def watch_stale(facts: Facts) -> Facts:
    """What the cluster shows is old."""
    silent = _unknown("WatchStale")
    return replace(facts, chroma_pods=silent, service_pods=silent, nodes=silent, volumes=silent, network=silent)


BLINDING: Final[Mapping[str, Trap]] = {
    "prometheus is down": prometheus_down,
    "the series are absent": absent,
    "the samples are old": stale,
    "the samples are no numbers": not_a_number,
    "the watch is silent": watch_stale,
}
"""With these nothing is known."""

MISLEADING: Final[Mapping[str, Trap]] = {"every sample comes twice": duplicate, "the pods disagree": pods_disagree}


def _well(name: str, series: Series) -> Series:
    return tuple(Sample(sample.at, HEALTHY.get(name, sample.value)) for sample in series)


def _unknown(reason: str) -> Unknown:
    return Unknown("a signal", reason, f"{reason}.")


def _each(
    facts: Facts, change: Callable[[str, str, Series], Series], change_row: Callable[[Row], Row] = lambda row: row
) -> Facts:
    """With another series for each signal and pod, and another value for each row."""

    def series(name: str, fact: PerPodFact) -> PerPodFact:
        if isinstance(fact, Unknown):
            return fact
        return Known({pod: change(name, pod, series) for pod, series in fact.value.items()}, fact.at)

    def rows(fact: RowsFact) -> RowsFact:
        return fact if isinstance(fact, Unknown) else Known(tuple(change_row(row) for row in fact.value), fact.at)

    return _changed(facts, series, rows)


def _changed(
    facts: Facts,
    series: Callable[[str, PerPodFact], PerPodFact],
    rows: Callable[[RowsFact], RowsFact],
    error_ratio: Unknown | None = None,
) -> Facts:
    fields: dict[str, object] = {name: series(name, getattr(facts, name)) for name in SERIES}
    return replace(
        facts,
        **fields,  # type: ignore[arg-type]
        error_ratio=error_ratio or facts.error_ratio,
        series_by_name={name: series(name, fact) for name, fact in facts.series_by_name.items()},
        rows_by_name={name: rows(fact) for name, fact in facts.rows_by_name.items()},
    )
