from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from knowledgebeast_service.maintenance.backups.retention import DatedSet, Retention, to_prune

NOW = datetime(2030, 6, 15, 12, 30, tzinfo=UTC)

sets = st.lists(
    st.builds(
        DatedSet,
        id=st.uuids().map(str),
        created_at=st.floats(-3, 120 * 24).map(lambda hours: NOW - timedelta(hours=hours)),
        is_good=st.booleans(),
    ),
    max_size=60,
    unique_by=lambda one: one.id,
)
retentions = st.builds(Retention, st.floats(0, 20), st.floats(0, 60))


@given(sets, retentions)
def test_the_newest_good_one_and_the_only_good_one_stay_whatever_their_age(
    found: list[DatedSet], retention: Retention
) -> None:
    gone = set(to_prune(found, NOW, retention))
    good = [one for one in found if one.is_good]
    if good:
        assert max(good, key=lambda one: (one.created_at, one.id)).id not in gone
        assert any(one.id not in gone for one in good)


@given(sets, retentions)
def test_what_the_user_asked_to_keep_is_kept(found: list[DatedSet], retention: Retention) -> None:
    gone = set(to_prune(found, NOW, retention))
    for one in found:
        if NOW - one.created_at <= timedelta(days=retention.keep_days):
            assert one.id not in gone
    left_by_day = {one.created_at.date() for one in found if one.is_good and one.id not in gone}
    for one in found:
        newest = max((b.created_at for b in found if b.is_good and b.created_at.date() == one.created_at.date()),
                     default=None)  # fmt: skip
        if newest is not None and NOW - newest <= timedelta(days=retention.keep_daily_days):
            assert one.created_at.date() in left_by_day


@given(sets, retentions)
def test_pruning_again_removes_nothing_more(found: list[DatedSet], retention: Retention) -> None:
    gone = set(to_prune(found, NOW, retention))
    assert to_prune([one for one in found if one.id not in gone], NOW, retention) == []


def test_hourly_backups_of_60_days_leave_a_week_of_hours_and_a_month_of_days() -> None:
    hourly = [DatedSet(str(hour), NOW - timedelta(hours=hour), is_good=True) for hour in range(60 * 24)]
    gone = set(to_prune(hourly, NOW, Retention()))
    left = [one for one in hourly if one.id not in gone]
    assert len([one for one in left if NOW - one.created_at <= timedelta(days=7)]) == 7 * 24 + 1
    older = [one for one in left if NOW - one.created_at > timedelta(days=7)]
    # The newest of a day that is 30 days old at noon was made after noon, and stays.
    assert len(older) == 23
    assert len({one.created_at.date() for one in older}) == len(older)
