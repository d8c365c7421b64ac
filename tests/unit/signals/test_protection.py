"""What is known about the data's safety, from pods that are there and from the status where they are gone."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest

from kb_facts import NOW, facts, minutes
from knowledgebeast_operator.cluster.client import Json
from knowledgebeast_operator.cluster.objects import LivePod
from knowledgebeast_operator.core.facts import Fact, Known, Unknown
from knowledgebeast_operator.core.protection import Damage, IntegrityCheck, Protection
from knowledgebeast_operator.record.protection_view import protection_view
from knowledgebeast_operator.signals.protection import observe_protection
from maintenance_pods import BACKUP, DRILL, NO_DAMAGE, cron_jobs, ended, result, running
from operand_objects import knowledge_beast

HOUR = timedelta(hours=1)


def observed(*pods: LivePod, status: Json | None = None) -> tuple[Fact[IntegrityCheck], Protection]:
    return observe_protection(knowledge_beast(), pods, cron_jobs(), status or {})


def protection(*pods: LivePod, status: Json | None = None) -> Protection:
    return observed(*pods, status=status)[1]


def integrity(*pods: LivePod, status: Json | None = None) -> Fact[IntegrityCheck]:
    return observed(*pods, status=status)[0]


def known_ids(found: Protection) -> str | None:
    return found.backup.value.id if isinstance(found.backup, Known) else None


def test_nothing_is_known_before_the_first_run() -> None:
    check, found = observed(running("check"), running("backup"))
    assert isinstance(check, Unknown)
    assert isinstance(found.backup, Unknown)
    assert isinstance(found.drill, Unknown)
    assert (found.failed_backup, found.failed_drill, found.failed_check) == (None, None, None)


def test_a_backup_is_as_old_as_its_content_not_as_its_job() -> None:
    found = protection(ended("backup", result(BACKUP), at=NOW + minutes(20)))
    assert isinstance(found.backup, Known)
    assert found.backup.at == datetime(2026, 1, 7, 12, 0, tzinfo=UTC)
    assert (found.backup.value.seq, found.backup.value.size_bytes) == (4711, 3 * 1024 * 1024)


def test_a_failed_run_is_told_until_a_later_one_went_well() -> None:
    refused = ended("backup", result({}, ok=False, refused="2 MB are free, 9 are needed", reason="DiskFull"), code=1)
    before = ended("backup", result(BACKUP), at=NOW - HOUR)
    failing = protection(before, refused)
    assert known_ids(failing) == BACKUP["backup_id"]
    assert failing.failed_backup is not None
    assert (failing.failed_backup.reason, failing.failed_backup.message) == ("DiskFull", "2 MB are free, 9 are needed")
    assert failing.failed_backup.attempt == "demo-backup-1200"
    well_again = protection(before, refused, ended("backup", result(BACKUP), at=NOW + HOUR))
    assert well_again.failed_backup is None


@pytest.mark.parametrize(
    ("message", "code", "reason", "said"),
    [
        (None, 137, "OOMKilled", "it left no result and ended with exit code 137"),
        ("Traceback\n  …\nOSError: no space left", 1, "Error", "OSError: no space left"),
        (result(BACKUP)[:40], 1, "Error", result(BACKUP)[:40]),
        (result({"backup_id": "x"}), 0, "Completed", "it ended with exit code 0"),
    ],
)
def test_a_run_without_a_readable_result_is_a_failed_one(
    message: str | None, code: int, reason: str, said: str
) -> None:
    found = protection(ended("backup", message, code=code, reason=reason))
    assert isinstance(found.backup, Unknown)
    assert found.failed_backup is not None
    assert (found.failed_backup.reason, found.failed_backup.message) == (reason, said)


def test_what_a_backup_that_failed_measured_is_not_a_backup() -> None:
    assert known_ids(protection(ended("backup", result(BACKUP, ok=False), code=1))) is None


def test_damage_is_a_verdict_although_the_task_exits_with_an_error() -> None:
    torn = {"damage": "pages", "problems": ["Tree 7 page 12: btreeInitPage() returns error code 11"], "seq": None}
    found = integrity(
        ended("check", result(NO_DAMAGE), at=NOW - HOUR), ended("check", result(torn, ok=False), code=1, job="demo-c")
    )
    assert isinstance(found, Known)
    assert found.value == IntegrityCheck(Damage.PAGES, (torn["problems"][0],), None, NOW, "demo-c")  # type: ignore[index]


def test_the_newest_check_counts_whoever_asked_for_it() -> None:
    torn = ended("check", result({**NO_DAMAGE, "damage": "index"}, ok=False), at=NOW - minutes(5), code=1)
    mended = ended("check", result(NO_DAMAGE), at=NOW, job="demo-database-corruption-0001-1")
    found = integrity(torn, mended)
    assert isinstance(found, Known)
    assert (found.value.damage, found.value.attempt) == (Damage.NONE, "demo-database-corruption-0001-1")


@pytest.mark.parametrize("measured", [{"damage": "gnawed"}, {}, {"damage": "none", "seq": -1}])
def test_a_verdict_that_is_not_understood_is_none(measured: Json) -> None:
    check, found = observed(ended("check", result(measured)))
    assert isinstance(check, Unknown)
    assert found.failed_check is not None


def test_pods_of_other_tasks_say_nothing_about_this_one() -> None:
    assert known_ids(protection(ended("drill", result(BACKUP)), ended("restore", result(BACKUP)))) is None


# Recalled


def shown(pods: Iterable[LivePod]) -> Json:
    check, found = observed(*pods)
    return {"backups": protection_view(facts(integrity=check, protection=found))}


def test_what_was_seen_is_recalled_from_the_status_when_the_pods_are_gone() -> None:
    pods = [
        ended("backup", result(BACKUP)),
        ended("drill", result(DRILL)),
        ended("check", result({**NO_DAMAGE, "damage": "index", "problems": ["row 3 missing"]}, ok=False), code=1),
    ]
    status = shown(pods)
    (check, found), (check_again, again) = observed(*pods), observed(status=status)
    assert check_again == check
    assert (again.backup, again.drill) == (found.backup, found.drill)
    assert isinstance(check, Known)


def test_what_pods_say_now_outdates_what_is_recalled_and_not_the_other_way_round() -> None:
    status = shown([ended("backup", result(BACKUP))])
    older = {**BACKUP, "backup_id": "20260107T110000Z-4000", "created_at": "2026-01-07T11:00:00Z"}
    newer = {**BACKUP, "backup_id": "20260107T130000Z-5000", "created_at": "2026-01-07T13:00:00Z"}
    assert known_ids(protection(ended("backup", result(older)), status=status)) == BACKUP["backup_id"]
    assert known_ids(protection(ended("backup", result(newer)), status=status)) == newer["backup_id"]


def test_a_status_that_cannot_be_read_recalls_nothing() -> None:
    assert known_ids(protection(status={"backups": {"lastVerified": {"id": 3}}})) is None


def test_long_findings_fit_into_the_status() -> None:
    measured = {"damage": "pages", "problems": ["x" * 2000] * 40}
    view = shown([ended("check", result(measured, ok=False), code=1)])["backups"]
    assert [len(problem) for problem in view["lastCheck"]["problems"]] == [512] * 10  # type: ignore[index, call-overload]


# Due


def test_a_task_is_late_when_it_was_due_twice_since_its_last_success() -> None:
    found = protection(ended("backup", result(BACKUP)), ended("drill", result(DRILL)))
    assert found.backup_due == datetime(2026, 1, 7, 14, 0, tzinfo=UTC)
    assert found.drill_due == datetime(2026, 1, 18, 3, 0, tzinfo=UTC)


def test_without_a_success_it_counts_from_when_its_cron_job_was_made() -> None:
    assert protection().backup_due == NOW + 2 * HOUR


def test_before_there_is_a_cron_job_nothing_is_due() -> None:
    assert observe_protection(knowledge_beast(), (), (), {})[1].backup_due is None
