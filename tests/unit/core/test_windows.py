"""Maintenance windows over midnight, weeks and the changes of the clocks."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledgebeast_operator.core.windows import is_known_timezone, is_open_at, next_start
from knowledgebeast_operator.custom_resource import MaintenanceWindow

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def window(days: str = "Sat", start: str = "02:00", duration: str = "4h", timezone: str = "UTC") -> MaintenanceWindow:
    return MaintenanceWindow.model_validate(
        {"days": days.split(), "start": start, "duration": duration, "timezone": timezone}
    )


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


BERLIN = window("Sun", "02:30", "4h", "Europe/Berlin")
OPEN = {
    # 2026-01-10 is a Saturday; Berlin's clocks go forward on 2026-03-29 and back on 2026-10-25, at 01:00 UTC
    "at_its_start": (window(), "2026-01-10T02:00", True),
    "just_before": (window(), "2026-01-10T01:59:59", False),
    "at_its_end": (window(), "2026-01-10T06:00", False),
    "just_before_its_end": (window(), "2026-01-10T05:59:59", True),
    "on_another_day": (window(), "2026-01-11T03:00", False),
    "after_midnight_it_is_still_yesterdays": (window("Sat", "23:00", "2h"), "2026-01-11T00:59", True),
    "after_midnight_not_of_a_day_that_has_none": (window("Sun", "23:00", "2h"), "2026-01-11T00:59", False),
    "over_the_end_of_the_year": (window("Wed", "22:00", "24h"), "2026-01-01T21:59", True),
    "in_local_time_in_winter": (window("Sat", "02:00", "1h", "Europe/Berlin"), "2026-01-10T01:30", True),
    "in_local_time_in_summer": (window("Sat", "02:00", "1h", "Europe/Berlin"), "2026-07-11T00:30", True),
    "a_day_ahead_of_utc": (window("Sun", "01:00", "1h", "Pacific/Auckland"), "2026-01-10T12:30", True),
    "a_start_that_is_skipped_comes_later": (BERLIN, "2026-03-29T01:29", False),
    "a_skipped_start_lasts_as_long": (BERLIN, "2026-03-29T05:29", True),
    "a_skipped_start_lasts_no_longer": (BERLIN, "2026-03-29T05:30", False),
    "of_a_repeated_start_the_first_counts": (BERLIN, "2026-10-25T00:30", True),
    "a_repeated_start_lasts_no_longer": (BERLIN, "2026-10-25T04:30", False),
}


@pytest.mark.parametrize(("given_window", "moment", "is_open"), OPEN.values(), ids=OPEN.keys())
def test_is_open(given_window: MaintenanceWindow, moment: str, is_open: bool) -> None:
    assert is_open_at(given_window, at(moment)) is is_open


def test_next_start_is_the_earliest_of_all() -> None:
    assert next_start((window("Sat"), window("Fri", "20:00")), at("2026-01-07T12:00")) == at("2026-01-09T20:00")


def test_next_start_is_a_week_away_when_it_has_just_begun() -> None:
    assert next_start((window("Sat"),), at("2026-01-10T02:00")) == at("2026-01-17T02:00")


def test_without_windows_there_is_no_start() -> None:
    assert next_start((), at("2026-01-10T02:00")) is None


windows = st.builds(
    window,
    days=st.lists(st.sampled_from(DAYS), min_size=1, unique=True).map(" ".join),
    start=st.times().map(lambda time: f"{time:%H:%M}"),
    duration=st.integers(1, 24).map(lambda hours: f"{hours}h"),
    timezone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Pacific/Auckland", "Australia/Lord_Howe"]),
)
moments = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC))


@given(windows, moments)
def test_a_window_opens_at_its_next_start_and_lasts_its_duration(one: MaintenanceWindow, now: datetime) -> None:
    start = next_start((one,), now)
    assert start is not None
    assert now < start <= now + timedelta(days=8)
    assert is_open_at(one, start)
    assert is_open_at(one, start + one.duration - timedelta(seconds=1))
    local = start.astimezone(ZoneInfo(one.timezone))
    assert local.strftime("%a") in one.days
    is_skipped = local.strftime("%H:%M") != one.start
    if is_skipped:
        wall = local.replace(tzinfo=None) - datetime.combine(local.date(), datetime.strptime(one.start, "%H:%M").time())
        assert timedelta(0) < wall <= timedelta(hours=1)


@given(windows, moments)
def test_an_open_window_began_less_than_its_duration_ago(one: MaintenanceWindow, now: datetime) -> None:
    start = next_start((one,), now - one.duration)
    assert is_open_at(one, now) == (start is not None and start <= now)


@pytest.mark.parametrize(
    ("name", "is_known"), [("Europe/Berlin", True), ("Mars/Olympus", False), ("../etc", False), ("Europe", False)]
)
def test_time_zones(name: str, is_known: bool) -> None:
    assert is_known_timezone(name) is is_known
