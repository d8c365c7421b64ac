"""Copies of backups in object storage, as the results of backups tell of them."""

from datetime import timedelta

from kb_facts import NOW, facts
from knowledgebeast_operator.cluster.client import Json
from knowledgebeast_operator.cluster.objects import LivePod
from knowledgebeast_operator.core.fact import Known, Unknown
from knowledgebeast_operator.core.protection import Protection
from knowledgebeast_operator.core.protection_conditions import backup_copied
from knowledgebeast_operator.record.protection_view import protection_view
from knowledgebeast_operator.signals.protection import observe_protection
from maintenance_pods import BACKUP, cron_jobs, ended, result
from operand_objects import REMOTE, knowledge_beast

HOUR = timedelta(hours=1)
THERE = {"ok": True, "to": "s3://backups/search/demo/", "pruned": 0}
NOT_THERE = {"ok": False, "to": "s3://backups/search/demo/", "error": "cannot upload: 403 Forbidden"}
LATER = {**BACKUP, "backup_id": "20260107T130000Z-5000", "created_at": "2026-01-07T13:00:00Z"}
COPIED = ended("backup", result({**BACKUP, "remote": THERE}))
REFUSED = ended("backup", result({**LATER, "remote": NOT_THERE}), at=NOW + HOUR)


def protection(*pods: LivePod, status: Json | None = None, **changed: object) -> Protection:
    kb = knowledge_beast({"database": {"backup": {"remote": {**REMOTE, **changed}}}})
    return observe_protection(kb, pods, cron_jobs(), status or {})[1]


def shown(found: Protection) -> tuple[str, str]:
    return backup_copied(found).status, backup_copied(found).reason


def recalled(found: Protection) -> Json:
    return {"backups": protection_view(facts(protection=found))}


def test_a_copied_backup_is_known_by_where_it_is() -> None:
    found = protection(COPIED)
    assert shown(found) == ("True", "Copied")
    assert backup_copied(found).message == (
        "20260107T120000Z-4711 (3.0 MiB), made at 2026-01-07 12:00:00 UTC, is in s3://backups/search/demo/."
    )


def test_a_failed_copy_takes_nothing_from_the_backup_and_is_told_with_the_last_good_one() -> None:
    found = protection(COPIED, REFUSED)
    assert isinstance(found.backup, Known)
    assert (found.backup.value.id, found.failed_backup) == (LATER["backup_id"], None)
    assert shown(found) == ("False", "CopyFailed")
    assert backup_copied(found).message == (
        "The backup demo-backup-1300 is on its volume and was not copied at 2026-01-07 13:00:00 UTC: cannot upload: "
        "403 Forbidden. The newest copy is 20260107T120000Z-4711, of 2026-01-07 12:00:00 UTC. The next backup tries it "
        "again."
    )


def test_a_failed_copy_is_forgiven_by_the_next_good_one() -> None:
    again = ended("backup", result({**LATER, "remote": THERE}), at=NOW + 2 * HOUR)
    assert shown(protection(COPIED, REFUSED, again)) == ("True", "Copied")


def test_a_backup_that_failed_says_nothing_about_copies() -> None:
    failed = ended("backup", result({}, ok=False, refused="full", reason="DiskFull"), at=NOW + HOUR, code=1)
    assert shown(protection(COPIED, failed)) == ("True", "Copied")


def test_before_the_first_copy_nothing_is_wrong() -> None:
    assert shown(protection(ended("backup", result(BACKUP)))) == ("Unknown", "NoCopyYet")


def test_where_none_is_asked_for_it_says_so_whatever_was_copied_before() -> None:
    found = observe_protection(knowledge_beast(), (COPIED,), cron_jobs(), recalled(protection(COPIED)))[1]
    assert shown(found) == ("Unknown", "NotConfigured")
    assert "lastRemote" not in protection_view(facts(protection=found))


def test_a_copy_is_recalled_from_the_status_when_the_pods_are_gone() -> None:
    before = protection(COPIED)
    assert protection(status=recalled(before)).copy == before.copy


def test_copies_in_another_place_are_none_in_this_one() -> None:
    found = protection(COPIED, status=recalled(protection(COPIED)), bucket="moved")
    assert isinstance(found.copy, Unknown)


def test_a_status_that_cannot_be_read_recalls_no_copy() -> None:
    for written in ({}, {"backups": None}, {"backups": {"lastRemote": 3}}):
        assert shown(protection(status=written)) == ("Unknown", "NoCopyYet")
