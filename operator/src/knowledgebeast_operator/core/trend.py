"""Where a series is heading: its slope by least squares, and when it reaches a limit. Pure, of plain points."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TypeAlias

Point: TypeAlias = tuple[datetime, float]


def slope(points: Sequence[Point], *, fewest: int, shortest: timedelta) -> float | None:
    """The growth per second of the line that fits best, oldest point first; None when the points do not tell.

    Args:
        points: at least `fewest` of them. With one that is not a number nothing is known about the line.
        fewest: two points always have a line, and it says nothing.
        shortest: what the points have to span. A process that has just started grows by loading what it needs, and a
            few minutes of that would look like a leak.
    """
    if len(points) < max(2, fewest) or points[-1][0] - points[0][0] < max(shortest, timedelta(microseconds=1)):
        return None
    start = points[0][0]
    times = [(at - start).total_seconds() for at, _ in points]
    values = [value for _, value in points]
    if not all(map(math.isfinite, values)):
        return None
    # About the means: squares of byte counts would lose the digits that matter.
    middle, level = math.fsum(times) / len(times), math.fsum(values) / len(values)
    spread = math.fsum((time - middle) ** 2 for time in times)
    covered = math.fsum((time - middle) * (value - level) for time, value in zip(times, values, strict=True))
    return covered / spread


def lasting_growth(points: Sequence[Point], *, fewest: int, shortest: timedelta) -> float | None:
    """The growth per second of what is not given back; None as for `slope`.

    A step or a sawtooth has a slope too, but its lowest values do not rise: what counts is the smaller of the slope and
    of the growth from the lowest value of the first third of the time to that of the last third.
    """
    fitted = slope(points, fewest=fewest, shortest=shortest)
    if fitted is None:
        return None
    third = (points[-1][0] - points[0][0]) / 3
    first = [point for point in points if point[0] <= points[0][0] + third]
    last = [point for point in points if point[0] >= points[-1][0] - third]
    low, late = (min(part, key=lambda point: point[1]) for part in (first, last))
    return min(fitted, (late[1] - low[1]) / (late[0] - low[0]).total_seconds())


def time_to_reach(limit: float, value: float, slope_per_second: float) -> timedelta | None:
    """How long a value that grows so takes to `limit`; zero when it is there, None when it never comes.

    A time that no calendar holds counts as never.
    """
    if value >= limit:
        return timedelta(0)
    if slope_per_second <= 0:
        return None
    try:
        return timedelta(seconds=(limit - value) / slope_per_second)
    except OverflowError:
        return None
