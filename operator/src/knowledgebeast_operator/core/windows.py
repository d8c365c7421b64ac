"""Maintenance windows in local time, correct over midnight and the changes of the clocks.

A window begins at a wall-clock time and lasts for an elapsed time: four hours are four hours in the night in which the
clocks change, too. A start that the clocks skip happens as much later; of one that they repeat, the first counts.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from knowledgebeast_operator.custom_resource import MaintenanceWindow

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_WEEK: Final = 7
_LOOK_BACK_DAYS: Final = 2  # a window lasts at most 24 h, and the local day can differ from the one in UTC


def is_known_timezone(name: str) -> bool:
    """Whether the system's time zone data has it; a name that is no relative path is not looked up."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError; a folder's name gives OSError
        return False
    return True


def is_open_at(window: MaintenanceWindow, now: datetime) -> bool:
    """Whether disruptive actions may run at `now` (timezone-aware)."""
    moment = now.astimezone(UTC)
    return any(start <= moment < start + window.duration for start in _starts(window, moment, days=_LOOK_BACK_DAYS + 1))


def next_start(windows: tuple[MaintenanceWindow, ...], now: datetime) -> datetime | None:
    """The first start after `now` in UTC; None without windows. A window has a day, so one comes within 8 days."""
    moment = now.astimezone(UTC)
    days = _LOOK_BACK_DAYS + _WEEK + 2
    starts = (start for window in windows for start in _starts(window, moment, days=days) if start > moment)
    return min(starts, default=None)


def _starts(window: MaintenanceWindow, moment: datetime, *, days: int) -> Iterator[datetime]:
    """Starts in UTC on the local days from two days ago on."""
    zone = ZoneInfo(window.timezone)
    today = moment.astimezone(zone).date()
    for offset in range(-_LOOK_BACK_DAYS, days - _LOOK_BACK_DAYS):
        day = today + timedelta(days=offset)
        if _DAYS[day.weekday()] in window.days:
            yield _instant(day, window.start, zone)


def _instant(day: date, start: str, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time.fromisoformat(start), tzinfo=zone).astimezone(UTC)
