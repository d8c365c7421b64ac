from datetime import UTC, datetime

import pytest

from knowledgebeast_operator.custom_resource.schedule import checked, next_due

NOON = datetime(2026, 1, 7, 12, 0, tzinfo=UTC)  # a Wednesday


@pytest.mark.parametrize(
    "schedule",
    ["* * * * *", "0 * * * *", "*/30 * * * *", "5/15 0-5,22-23 1-31/2 1,7 MON-FRI", "59 23 31 12 6", "00 03 * * 0"],
)
def test_what_cron_knows_is_taken_and_is_due_some_day(schedule: str) -> None:
    assert checked(schedule) == schedule
    assert next_due(schedule, NOON) is not None


@pytest.mark.parametrize(
    "schedule",
    ["", "hourly", "@hourly", "* * * *", "* * * * * *", "60 * * * *", "0 24 * * *", "0 0 0 * *", "0 0 32 * *",
     "0 0 * 13 *", "0 0 * * 7", "0 0 * * mon", "0 0 L * *", "TZ=UTC 0 * * * *", "0  * * * *", "*/0 * * * *",
     "0 * * * * ", "0 * * * *\n", "1- * * * *", "1,,2 * * * *"],
)  # fmt: skip
def test_anything_else_is_refused_with_an_example(schedule: str) -> None:
    with pytest.raises(ValueError, match=r"write five fields like 0 \* \* \* \*"):
        checked(schedule)


@pytest.mark.parametrize(
    ("schedule", "times", "due"),
    [
        ("0 * * * *", 1, datetime(2026, 1, 7, 13, 0, tzinfo=UTC)),
        ("0 * * * *", 2, datetime(2026, 1, 7, 14, 0, tzinfo=UTC)),
        ("0 3 * * 0", 2, datetime(2026, 1, 18, 3, 0, tzinfo=UTC)),
        ("0 9 * * MON-FRI", 3, datetime(2026, 1, 12, 9, 0, tzinfo=UTC)),
    ],
)
def test_a_schedule_is_due_strictly_after_the_moment(schedule: str, times: int, due: datetime) -> None:
    assert next_due(schedule, NOON, times=times) == due


@pytest.mark.parametrize("schedule", ["0 0 30 2 *", "0 0 * * 5-1"])
def test_what_never_comes_is_never_due(schedule: str) -> None:
    assert next_due(schedule, NOON) is None
