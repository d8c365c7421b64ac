"""A backup that is killed at any call that changes files, or is refused by the disk: never a half set that passes."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backup_world import fill, make_set
from crash_trials import TEST_SECONDS, copy_tree, killed, killed_again, out_of_space, torn
from crashpoints.runner import CrashRunner, Mode, Outcome
from knowledgebeast_service.maintenance.backups.catalogue import judge_all
from knowledgebeast_service.maintenance.backups.manifest import DATABASE, sets_folder
from knowledgebeast_service.maintenance.result import read_result
from knowledgebeast_service.storage.database import Database

pytestmark = pytest.mark.timeout(TEST_SECONDS)


class Backup:
    """A data folder, and backups that can be put back as they were: a good set, an old one, a bad one."""

    def __init__(self, folder: Path, runner: CrashRunner) -> None:
        self.data = folder / "data"
        self.backups = folder / "backups"
        self._before = folder / "before"
        self._runner = runner
        database = Database(self.data / "knowledgebeast.db")
        database.open()
        fill(database, documents=3)
        now = datetime.now(UTC)
        self.good = make_set(database.path, self.backups, now - timedelta(hours=2)).name
        self.old = make_set(database.path, self.backups, now - timedelta(days=40)).name
        bad = make_set(database.path, self.backups, now - timedelta(hours=1))
        (bad / DATABASE).write_bytes(b"x" * 4096)
        self.bad = bad.name
        database.close()
        copy_tree(self.backups, self._before)

    @property
    def folders(self) -> list[Path]:
        return [self.backups, self.data / "maintenance"]

    def anew(self) -> None:
        copy_tree(self._before, self.backups)
        copy_tree(self._before / "none", self.data / "maintenance")

    def run(self, mode: Mode = Mode.COUNT, at: int = 0) -> Outcome:
        return self._runner.run(
            "command_targets:run_backup", [self.data, self.backups, "again"], self.folders, mode=mode, at=at
        )

    def later(self) -> Outcome:
        return self.run()

    def require_safe(self) -> None:
        judged = judge_all(self.backups)
        unfinished = {one.id for one in judged if not one.ok} - {self.bad}
        assert all(name.startswith(".") for name in unfinished), unfinished
        assert self.good in {one.id for one in judged if one.ok}

    def require_done(self, outcome: Outcome) -> None:
        assert outcome.raised is None, outcome.traceback
        assert outcome.result["ok"], outcome.result
        made = outcome.result["measured"]["backup_id"]
        left = {one.name for one in sets_folder(self.backups).iterdir()}
        assert left == {".lock", self.good, self.bad, made}
        assert {one.id for one in judge_all(self.backups) if one.ok} == {self.good, made}
        assert [one.name for one in (self.data / "maintenance").iterdir()] == ["backup-again.json"]
        result = read_result(self.data / "maintenance" / "backup-again.json")
        assert result is not None
        assert result.measured["backup_id"] == made


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory, crash_runner: CrashRunner) -> Backup:
    return Backup(tmp_path_factory.mktemp("backup"), crash_runner)


def test_a_kill_at_a_call_leaves_a_whole_set_or_none(backup: Backup) -> None:
    killed(backup, 24)


def test_a_write_that_is_torn_leaves_a_whole_set_or_none(backup: Backup) -> None:
    torn(backup, 5)


def test_a_kill_during_the_recovery_leaves_a_whole_set_or_none(backup: Backup) -> None:
    killed_again(backup, 6)


@pytest.mark.parametrize("mode", [Mode.FAIL, Mode.FAIL_ON])
def test_a_full_disk_costs_no_set_and_the_next_run_makes_one(backup: Backup, mode: Mode) -> None:
    out_of_space(backup, mode, 8, reasons=("DiskFull", "Unreadable"))


def test_the_database_is_synced_before_its_manifest_and_both_before_their_name(backup: Backup) -> None:
    """A kill keeps what was written; only the order of the calls shows what a power cut would keep."""
    backup.anew()
    log = backup.run().log
    seen = [(call.name, Path(call.path).name) for call in log]
    published = next(
        at for at, call in enumerate(log) if call.name == "rename" and call.path.endswith(".partial-again")
    )
    last_write = max(at for at, call in enumerate(log) if call.bytes and call.path.endswith(DATABASE))
    synced = max(at for at, one in enumerate(seen) if one == ("fsync", DATABASE))
    described = seen.index(("create", ".manifest.json.tmp"))
    assert last_write < synced < described < published
    assert ("fsync", ".manifest.json.tmp") in seen[described:published]
    assert ("fsync", ".partial-again") in seen[described:published]
    assert seen[published + 1] == ("fsync", "sets")
