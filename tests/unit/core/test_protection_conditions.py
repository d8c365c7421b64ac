"""BackupFresh and RestoreTested, and the series that alerts read."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from prometheus_client import REGISTRY

from kb_facts import NOW
from knowledgebeast_operator.core.facts import Known, Subject
from knowledgebeast_operator.core.protection import FailedRun, Protection, RemoteCopy, RestoreDrill, VerifiedBackup
from knowledgebeast_operator.core.protection_conditions import backup_fresh, restore_tested
from knowledgebeast_operator.record.protection_metrics import ProtectionGauges

HOUR = timedelta(hours=1)

BACKUP = VerifiedBackup("20260107T120000Z-4711", NOW, 4711, 3 * 1024 * 1024)
DRILL = RestoreDrill("20260107T120000Z-4711", NOW, 12.34, 1200)
SAFE = Protection(
    backup=Known(BACKUP, NOW), drill=Known(DRILL, NOW), backup_due=NOW + 2 * HOUR, drill_due=NOW + 24 * HOUR
)
NOTHING = Protection(backup_due=NOW + 2 * HOUR, drill_due=NOW + 24 * HOUR)
FAILED = FailedRun("demo-backup-1300", NOW + HOUR, "DiskFull", "2 MB are free, 9 are needed")


@pytest.mark.parametrize(
    ("protection", "at", "status", "reason"),
    [
        pytest.param(Protection(), NOW, "Unknown", "NoBackupYet", id="nothing is seen yet"),
        pytest.param(NOTHING, NOW + 2 * HOUR, "Unknown", "NoBackupYet", id="the second is just due"),
        pytest.param(NOTHING, NOW + 2.01 * HOUR, "False", "NoBackupYet", id="two were due and there is none"),
        pytest.param(SAFE, NOW, "True", "Verified", id="one was made now"),
        pytest.param(SAFE, NOW + 2 * HOUR, "True", "Verified", id="it is two periods old"),
        pytest.param(SAFE, NOW + 2.01 * HOUR, "False", "BackupOverdue", id="it is older than two periods"),
        pytest.param(replace(SAFE, failed_backup=FAILED), NOW + HOUR, "True", "Verified", id="one failed since"),
    ],
)
def test_a_backup_is_fresh_within_two_periods(protection: Protection, at: datetime, status: str, reason: str) -> None:
    found = backup_fresh(protection, at)
    assert (found.status, found.reason) == (status, reason)


def test_an_overdue_backup_is_named_with_why_the_last_run_failed() -> None:
    message = backup_fresh(replace(SAFE, failed_backup=FAILED), NOW + 3 * HOUR).message
    assert message == (
        "The newest verified backup is 20260107T120000Z-4711 (change 4711, 3.0 MiB), of 2026-01-07 12:00:00 UTC; since "
        "then two more were due, the second at 2026-01-07 14:00:00 UTC. The last run, demo-backup-1300, failed at "
        "2026-01-07 13:00:00 UTC (DiskFull): 2 MB are free, 9 are needed."
    )


@pytest.mark.parametrize("protection", [SAFE, NOTHING])
def test_a_message_does_not_change_while_nothing_happens(protection: Protection) -> None:
    """Otherwise the status would be written at every look."""
    for condition in (backup_fresh, restore_tested):
        assert condition(protection, NOW) == condition(protection, NOW + HOUR)


@pytest.mark.parametrize(
    ("protection", "at", "status", "reason"),
    [
        pytest.param(NOTHING, NOW, "Unknown", "NoDrillYet", id="none yet"),
        pytest.param(NOTHING, NOW + 25 * HOUR, "False", "NoDrillYet", id="two were missed"),
        pytest.param(SAFE, NOW + HOUR, "True", "Restored", id="it went well"),
        pytest.param(SAFE, NOW + 25 * HOUR, "False", "DrillOverdue", id="two were missed since"),
        pytest.param(replace(SAFE, failed_drill=FAILED), NOW + HOUR, "False", "DrillFailed", id="the last one failed"),
        pytest.param(replace(NOTHING, failed_drill=FAILED), NOW, "False", "DrillFailed", id="the first one failed"),
    ],
)
def test_a_restore_is_tested_by_a_drill_that_went_well(
    protection: Protection, at: datetime, status: str, reason: str
) -> None:
    found = restore_tested(protection, at)
    assert (found.status, found.reason) == (status, reason)


def test_a_drill_says_how_long_the_restore_took() -> None:
    assert restore_tested(SAFE, NOW).message == (
        "20260107T120000Z-4711 was restored in 12.3 s, with 1,200 documents, at 2026-01-07 12:00:00 UTC."
    )


# Metrics

SUBJECT = Subject("ns", "measured", "uid-measured", 1)


@pytest.fixture
def gauges() -> Iterator[ProtectionGauges]:
    made = ProtectionGauges()
    yield made
    made.forget(SUBJECT.uid)


def series(name: str) -> float | None:
    return REGISTRY.get_sample_value(f"knowledgebeast_{name}", {"object_namespace": "ns", "object": "measured"})


def test_ages_grow_and_lateness_is_a_series_from_the_start(gauges: ProtectionGauges) -> None:
    gauges.report(SUBJECT, NOTHING, NOW)
    assert (series("backup_age_seconds"), series("backup_overdue"), series("restore_drill_overdue")) == (None, 0, 0)
    gauges.report(SUBJECT, SAFE, NOW + 3 * HOUR)
    assert (series("backup_age_seconds"), series("backup_overdue")) == (3 * 3600, 1)
    assert (series("restore_drill_age_seconds"), series("restore_drill_duration_seconds")) == (3 * 3600, 12.34)


def test_the_age_of_a_copy_goes_when_copies_go_elsewhere(gauges: ProtectionGauges) -> None:
    copy = RemoteCopy(BACKUP.id, NOW, 3, "s3://backups/demo/")
    failed = replace(SAFE, copy=Known(copy, NOW), failed_copy=FAILED)
    gauges.report(SUBJECT, failed, NOW + HOUR)
    assert (series("remote_copy_age_seconds"), series("remote_copy_failed")) == (3600, 1)
    gauges.report(SUBJECT, SAFE, NOW + HOUR)
    assert (series("remote_copy_age_seconds"), series("remote_copy_failed")) == (None, 0)


def test_the_series_go_with_their_object(gauges: ProtectionGauges) -> None:
    gauges.report(SUBJECT, SAFE, NOW)
    gauges.forget(SUBJECT.uid)
    assert (series("backup_age_seconds"), series("backup_overdue")) == (None, None)


def test_a_new_object_of_the_same_name_keeps_its_series_when_the_old_one_is_forgotten(gauges: ProtectionGauges) -> None:
    gauges.report(SUBJECT, SAFE, NOW)
    gauges.report(replace(SUBJECT, uid="uid-new"), SAFE, NOW)
    gauges.forget(SUBJECT.uid)
    assert series("backup_overdue") == 0
    gauges.forget("uid-new")
