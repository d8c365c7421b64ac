"""Samples: fresh, numbers, and for how long something has been true at least."""

import math

import pytest

from kb_facts import NOW, facts, per_pod, seconds, series, unknown
from knowledgebeast_operator.core.facts import Fact, Known, PerPod, Sample, Series, Unknown
from knowledgebeast_operator.core.series import fresh_series, has_held_for, run_length


def samples(*points: tuple[float, float]) -> Series:
    """(seconds before NOW, value), oldest first."""
    return tuple(Sample(NOW - seconds(ago), value) for ago, value in points)


def is_bad(value: float) -> bool:
    return value >= 1


RUNS: dict[str, tuple[Series, float | None]] = {
    "no_samples": ((), None),
    "false_now": (samples((10, 1), (0, 0)), None),
    "one_sample_is_a_length_of_zero": (samples((10, 0), (0, 1)), 0),
    "from_the_first_bad_sample_to_the_last": (samples((40, 0), (30, 1), (20, 1), (10, 1)), 20),
    "as_far_as_the_window_reaches": (samples((20, 1), (10, 1), (0, 1)), 20),
    "a_good_sample_in_between_starts_anew": (samples((30, 1), (20, 0), (10, 1), (0, 1)), 10),
    "a_gap_starts_anew": (samples((60, 1), (50, 1), (10, 1), (0, 1)), 10),
    "a_gap_of_three_scrapes_is_none": (samples((40, 1), (10, 1), (0, 1)), 40),
    "not_a_number_starts_anew": (samples((30, 1), (20, math.nan), (10, 1), (0, 1)), 10),
    "not_a_number_now": (samples((10, 1), (0, math.nan)), None),
}


@pytest.mark.parametrize(("given", "length"), RUNS.values(), ids=RUNS.keys())
def test_run_length(given: Series, length: float | None) -> None:
    expected = None if length is None else seconds(length)
    assert run_length(given, is_bad, seconds(30)) == expected


FRESH: dict[str, tuple[Fact[PerPod], str | None]] = {
    "fresh": (per_pod(series(1.0)), None),
    "exactly_three_scrapes_old": (per_pod(samples((30, 1))), None),
    "older_than_three_scrapes": (per_pod(samples((31, 1))), "SampleTooOld"),
    "no_samples_of_this_pod": (per_pod(series(1.0), pods=["demo-b"]), "SeriesMissing"),
    "not_a_number": (per_pod(samples((0, math.nan))), "NotANumber"),
    "unknown_stays_unknown": (unknown(), "PrometheusUnreachable"),
}


@pytest.mark.parametrize(("fact", "reason"), FRESH.values(), ids=FRESH.keys())
def test_fresh_series(fact: Fact[PerPod], reason: str | None) -> None:
    found = fresh_series(fact, "kb_degraded_mode", "demo-a", facts())
    assert (found.reason if isinstance(found, Unknown) else None) == reason
    assert isinstance(found, Known) == (reason is None)


HELD: dict[str, tuple[Series, bool]] = {
    "three_of_three": (samples((20, 1), (10, 1), (0, 1)), True),
    "two_of_three": (samples((20, 0), (10, 1), (0, 1)), False),
    "only_two_samples": (samples((10, 1), (0, 1)), False),
    "one_from_before": (samples((30, 1), (10, 1), (0, 1)), False),
    "not_a_number_is_not_held": (samples((20, 1), (10, math.nan), (0, 1)), False),
}


@pytest.mark.parametrize(("given", "is_held"), HELD.values(), ids=HELD.keys())
def test_has_held_for(given: Series, is_held: bool) -> None:
    assert has_held_for(given, is_bad, samples=3, after=NOW - seconds(25)) is is_held
