"""How old backups, their copies and restore drills are, for alerts: one series for each object, gone with it."""

import contextlib
from datetime import datetime
from typing import Final, TypeVar

from prometheus_client import Gauge

from knowledgebeast_operator.core.conditions import Status
from knowledgebeast_operator.core.fact import Fact, Known
from knowledgebeast_operator.core.facts import Subject
from knowledgebeast_operator.core.protection import Protection
from knowledgebeast_operator.core.protection_conditions import (
    BACKUP_COPIED,
    BACKUP_FRESH,
    RESTORE_TESTED,
    protection_conditions,
)
from knowledgebeast_operator.record.object_series import LABELS, ObjectSeries

T = TypeVar("T")

BACKUP_AGE: Final = Gauge("knowledgebeast_backup_age_seconds", "Age of the newest verified backup.", LABELS)
BACKUP_OVERDUE: Final = Gauge(
    "knowledgebeast_backup_overdue", "1 when two backups in a row were due and none was verified, else 0.", LABELS
)
REMOTE_AGE: Final = Gauge(
    "knowledgebeast_remote_copy_age_seconds", "Age of the newest backup that is in object storage, too.", LABELS
)
REMOTE_FAILED: Final = Gauge(
    "knowledgebeast_remote_copy_failed", "1 when the last backup could not be copied to object storage, else 0.", LABELS
)
DRILL_AGE: Final = Gauge(
    "knowledgebeast_restore_drill_age_seconds", "Since the last restore drill that went well.", LABELS
)
DRILL_DURATION: Final = Gauge(
    "knowledgebeast_restore_drill_duration_seconds", "How long the restore in that drill took.", LABELS
)
DRILL_OVERDUE: Final = Gauge(
    "knowledgebeast_restore_drill_overdue", "1 when the last drill failed or two in a row were missed, else 0.", LABELS
)

GAUGES: Final = (BACKUP_AGE, BACKUP_OVERDUE, REMOTE_AGE, REMOTE_FAILED, DRILL_AGE, DRILL_DURATION, DRILL_OVERDUE)

FALSE_CONDITIONS: Final = {BACKUP_OVERDUE: BACKUP_FRESH, REMOTE_FAILED: BACKUP_COPIED, DRILL_OVERDUE: RESTORE_TESTED}
"""Conditions whose being False is a series."""


class ProtectionGauges:
    """Sets the series of each object, and removes them when it goes."""

    def __init__(self) -> None:
        self._series = ObjectSeries(GAUGES)

    def report(self, subject: Subject, protection: Protection, now: datetime) -> None:
        """Sets the series of one object; ages only where something is known."""
        labels = self._series.labels_of(subject)
        conditions = protection_conditions(protection, now)
        for gauge, condition in FALSE_CONDITIONS.items():
            gauge.labels(*labels).set(float(conditions[condition].status is Status.FALSE))
        _set_age(BACKUP_AGE, labels, protection.backup, now)
        _set_age(REMOTE_AGE, labels, protection.copy, now)
        _set_age(DRILL_AGE, labels, protection.drill, now)
        if isinstance(protection.drill, Known):
            DRILL_DURATION.labels(*labels).set(protection.drill.value.duration_seconds)

    def forget(self, uid: str) -> None:
        """Removes the series of a deleted object."""
        self._series.forget(uid)


def _set_age(gauge: Gauge, labels: tuple[str, str], fact: Fact[T], now: datetime) -> None:
    if isinstance(fact, Known):
        gauge.labels(*labels).set(max(0.0, (now - fact.at).total_seconds()))
        return
    with contextlib.suppress(KeyError):  # nothing was ever known
        gauge.remove(*labels)  # it was known of another place
