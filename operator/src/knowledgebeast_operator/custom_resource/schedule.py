"""Cron schedules: the expressions that the CRD takes, and when they are due. All times are UTC."""

import itertools
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from cronsim import CronSim, CronSimError

_MINUTE: Final = "[0-5]?[0-9]"
_HOUR: Final = "([01]?[0-9]|2[0-3])"
_DAY: Final = "(0?[1-9]|[12][0-9]|3[01])"
_MONTH: Final = "(0?[1-9]|1[0-2])"
_WEEKDAY: Final = "([0-6]|SUN|MON|TUE|WED|THU|FRI|SAT)"


def _field(value: str) -> str:
    """A list of `*`, `5`, `1-5`, each with a step such as `/2` or without."""
    one = rf"(\*|{value}(-{value})?)(/[1-9][0-9]?)?"
    return f"{one}(,{one})*"


PATTERN: Final = f"^{' '.join(_field(value) for value in (_MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY))}$"
"""What Kubernetes' CronJobs and `cronsim` understand alike: no `@hourly`, no `L`, no seconds, Sunday is 0. A range that
is upside down passes here, and is refused by the API server when the CronJob is applied."""


def checked(schedule: str) -> str:
    """The schedule itself.

    Raises:
        ValueError: it has not five fields within their bounds.
    """
    if not re.fullmatch(PATTERN, schedule):
        raise ValueError(f"{schedule!r} is not a schedule; write five fields like 0 * * * * or */30 1-5 * * MON")
    return schedule


@lru_cache(maxsize=4096)
def next_due(schedule: str, after: datetime, *, times: int = 1) -> datetime | None:
    """The time at which the schedule is due for the `times`-th time after a moment (UTC); None when it never is."""
    try:
        return next(itertools.islice(CronSim(schedule, after.astimezone(UTC)), times - 1, None), None)
    except CronSimError:
        return None
