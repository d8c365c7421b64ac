"""Slopes and forecasts."""

import math
from collections.abc import Callable
from datetime import timedelta

import pytest

from kb_facts import NOW, minutes, seconds
from knowledgebeast_operator.core.trend import Point, lasting_growth, slope, time_to_reach

MIB = 1024.0**2
GIB = 1024 * MIB


def points(value: Callable[[float], float], *, span: float = 1800, step: float = 10) -> list[Point]:
    """One every `step` seconds; `value` of the seconds since the first."""
    return [(NOW + seconds(at), value(at)) for at in (index * step for index in range(int(span / step) + 1))]


def sawtooth(at: float) -> float:
    """A garbage collector's memory: up by 50 MiB in a minute, and down again."""
    return GIB + 50 * MIB * (at % 60) / 60


SLOPES: dict[str, tuple[list[Point], float | None]] = {
    "a_line": (points(lambda at: GIB + 1000 * at), 1000.0),
    "falling": (points(lambda at: GIB - 1000 * at), -1000.0),
    "flat": (points(lambda _: GIB), 0.0),
    "too_few": (points(lambda at: at, step=200), None),
    "too_short": (points(lambda at: at, span=600, step=5), None),
    "not_a_number": (points(lambda at: math.nan if at == 300 else at), None),
    "none": ([], None),
    "all_at_one_moment": ([(NOW, 1.0)] * 60, None),
}


@pytest.mark.parametrize(("given", "expected"), SLOPES.values(), ids=SLOPES.keys())
def test_slope(given: list[Point], expected: float | None) -> None:
    found = slope(given, fewest=30, shortest=minutes(15))
    assert found == (None if expected is None else pytest.approx(expected, abs=1e-6))


def test_a_sawtooth_is_nearly_flat() -> None:
    found = slope(points(sawtooth), fewest=30, shortest=minutes(15))
    assert found is not None
    assert abs(found) * 3600 < 5 * MIB


def step_up(at: float) -> float:
    """50 MiB more since five minutes."""
    return GIB + (50 * MIB if at >= 1500 else 0.0)


LASTING: dict[str, tuple[list[Point], float | None]] = {
    "a_line": (points(lambda at: GIB + 1000 * at), 1000.0),
    "falling": (points(lambda at: GIB - 1000 * at), -1000.0),
    "a_step_may_be_given_back": (points(step_up), 0.0),
    "a_sawtooth_is_given_back": (points(lambda at: GIB + 600 * MIB * (at % 600) / 600), 0.0),
    "a_sawtooth_on_a_slope": (points(lambda at: GIB + 1000 * at + 600 * MIB * (at % 600) / 600), 1000.0),
    "too_few": (points(lambda at: at, step=200), None),
}


@pytest.mark.parametrize(("given", "expected"), LASTING.values(), ids=LASTING.keys())
def test_growth_that_is_not_given_back(given: list[Point], expected: float | None) -> None:
    found = lasting_growth(given, fewest=30, shortest=minutes(15))
    assert found == (None if expected is None else pytest.approx(expected, abs=1e-6))


REACHED: dict[str, tuple[float, float, timedelta | None]] = {
    "in_an_hour": (GIB, (2 * GIB - GIB) / 3600, timedelta(hours=1)),
    "is_there": (2 * GIB, -1.0, timedelta(0)),
    "is_past_it": (3 * GIB, 1.0, timedelta(0)),
    "falling": (GIB, -1.0, None),
    "flat": (GIB, 0.0, None),
    "beyond_any_calendar": (GIB, 1e-9, None),
}


@pytest.mark.parametrize(("value", "growth", "expected"), REACHED.values(), ids=REACHED.keys())
def test_time_to_reach(value: float, growth: float, expected: timedelta | None) -> None:
    assert time_to_reach(2 * GIB, value, growth) == expected
