"""Which backups go: every one of the last days stays, then one a day, and whatever happens the newest good one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True)
class Retention:
    """Days for which every backup is kept, and days for which the newest good one of each day (UTC) is."""

    keep_days: float = 7
    keep_daily_days: float = 30


@dataclass(frozen=True)
class DatedSet:
    """What deciding needs to know of a set."""

    id: str
    created_at: datetime
    is_good: bool


def to_prune(sets: Sequence[DatedSet], now: datetime, retention: Retention) -> list[str]:
    """Ids of the sets to remove, oldest first.

    The newest good one is never among them, whatever its age: nothing may be left to restore from after a week of
    failing backups. One from the future (a clock was set back) is kept, too.
    """
    good = sorted((one for one in sets if one.is_good), key=lambda one: (one.created_at, one.id))
    newest_of_day = {one.created_at.date(): one.id for one in good}
    newest = {one.id for one in good[-1:]}
    daily = {
        one.id
        for one in good
        if newest_of_day[one.created_at.date()] == one.id
        and now - one.created_at <= timedelta(days=retention.keep_daily_days)
    }
    recent = {one.id for one in sets if now - one.created_at <= timedelta(days=retention.keep_days)}
    kept = newest | daily | recent
    return [one.id for one in sorted(sets, key=lambda one: (one.created_at, one.id)) if one.id not in kept]
