"""`maintain clean`: what goes, what stays, and that it never leaves the volume."""

import gzip
import os
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from backup_world import fill, make_set
from knowledgebeast_service.cli.app import app
from knowledgebeast_service.maintenance.backups.create import sets_lock
from knowledgebeast_service.maintenance.backups.manifest import DATABASE, sets_folder
from knowledgebeast_service.maintenance.backups.retention import Retention
from knowledgebeast_service.maintenance.cleaning.clean import Wanted, clean
from knowledgebeast_service.maintenance.restore.marker import Marker
from knowledgebeast_service.maintenance.result import TaskResult
from knowledgebeast_service.maintenance.running import announced, oldest_start
from knowledgebeast_service.storage.database import Database

NOW = time.time()
DAY = 86_400


def age(path: Path, days: float) -> None:
    then = NOW - days * DAY
    os.utime(path, (then, then), follow_symlinks=False)


def put(path: Path, *, days_old: float, content: bytes = b"x" * 8192) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    age(path, days_old)
    return path


def put_folder(path: Path, *, days_old: float) -> Path:
    put(path / "data.bin", days_old=days_old)
    age(path, days_old)
    return path


def run(folder: Path, **wanted: object) -> TaskResult:
    return clean(Wanted(folder, **wanted), "a", NOW)  # type: ignore[arg-type]


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if not path.is_dir()}


def test_old_temporary_files_go_and_nothing_else(tmp_path: Path) -> None:
    put(tmp_path / "temp/deep/old", days_old=2)
    put(tmp_path / "tmp/old", days_old=2)
    put(tmp_path / "temp/new", days_old=0.5)
    put(tmp_path / "chroma/old", days_old=2)
    put(tmp_path / "old", days_old=2)
    result = run(tmp_path)
    assert (result.ok, result.measured["temporary_files"], result.measured["temporary_bytes"]) == (True, 2, 16384)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == [
        "chroma/old",
        "old",
        "temp/new",
    ]


def test_no_link_is_followed_whether_to_a_file_or_a_folder(tmp_path: Path) -> None:
    outside = put(tmp_path / "outside/precious", days_old=90)
    volume = tmp_path / "volume"
    (volume / "temp").mkdir(parents=True)
    (volume / "temp/folder").symlink_to(outside.parent)
    (volume / "temp/file").symlink_to(outside)
    (volume / "tmp").symlink_to(outside.parent)
    (volume / "snapshots").symlink_to(outside.parent)
    (volume / "quarantine").mkdir()
    (volume / "quarantine/old").symlink_to(outside.parent)
    age(volume / "quarantine/old", 90)
    assert run(volume).measured["paths"] == []
    assert outside.exists()


@pytest.mark.skipif(os.geteuid() != 0 or not Path("/dev/shm").is_dir(), reason="needs a second file system")
def test_another_file_system_is_not_entered(tmp_path: Path) -> None:
    mounted = tmp_path / "temp/mounted"
    mounted.mkdir(parents=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", mounted], check=False).returncode:
        pytest.skip("may not mount")
    try:
        put(mounted / "old", days_old=2)
        assert run(tmp_path).measured["paths"] == []
        assert (mounted / "old").exists()
    finally:
        subprocess.run(["umount", mounted], check=True)


def test_files_that_are_younger_than_the_oldest_running_task_stay(tmp_path: Path) -> None:
    put(tmp_path / "temp/before", days_old=5)
    put(tmp_path / "temp/since", days_old=3)
    with announced(tmp_path, "restore", "long"):
        (mark,) = (tmp_path / "maintenance").glob(".running-*")
        age(mark, 4)
        run(tmp_path)
        assert left(tmp_path / "temp") == {"since"}
    run(tmp_path)
    assert left(tmp_path / "temp") == set()


def test_a_repair_that_was_killed_has_not_ended(tmp_path: Path) -> None:
    put(tmp_path / "restore-scratch/knowledgebeast.db", days_old=3)
    put_folder(tmp_path / "quarantine/fix-1", days_old=40)
    Marker("restore", "fix-1", "prepared", NOW - 4 * DAY).write(tmp_path)
    assert run(tmp_path).measured["paths"] == []


def test_a_killed_task_runs_no_longer(tmp_path: Path) -> None:
    put(tmp_path / "maintenance/.running-backup-a", days_old=9)
    assert oldest_start(tmp_path) is None


def test_two_logs_of_the_same_second_stay_two(tmp_path: Path) -> None:
    second = int(NOW - 8 * DAY)
    for number in (1, 2):
        log = tmp_path / f"logs/kb.log.{number}"
        put(log, days_old=8, content=f"log {number}".encode())
        os.utime(log, ns=(second * 10**9 + number, second * 10**9 + number))
    assert run(tmp_path).measured["compressed_log_files"] == 2
    made = [gzip.decompress(path.read_bytes()) for path in sorted((tmp_path / "logs").glob("*.gz"))]
    assert made == [b"log 1", b"log 2"]


def test_logs_are_compressed_then_removed(tmp_path: Path) -> None:
    text = b'{"level": "info"}\n' * 5000
    put(tmp_path / "logs/kb.log.2", days_old=8, content=text)
    put(tmp_path / "logs/kb.log", days_old=6, content=text)
    put(tmp_path / "logs/kb.log.20200101T000000Z.gz", days_old=31)
    put(tmp_path / "logs/kb.log.20200202T000000Z.gz", days_old=29)
    put(tmp_path / "logs/notes.txt", days_old=99)
    measured = run(tmp_path).measured
    assert (measured["compressed_log_files"], measured["removed_log_files"]) == (1, 1)
    (made,) = left(tmp_path / "logs") - {"kb.log", "kb.log.20200202T000000Z.gz", "notes.txt"}
    compressed = tmp_path / "logs" / made
    assert gzip.decompress(compressed.read_bytes()) == text
    assert compressed.stat().st_mtime == pytest.approx(NOW - 8 * DAY, abs=1)
    assert compressed.stat().st_size < len(text) / 10


def test_a_log_file_that_a_process_writes_is_left(tmp_path: Path) -> None:
    quiet = put(tmp_path / "logs/kb.log", days_old=8)
    with quiet.open("ab"):
        result = run(tmp_path)
        assert result.measured["skipped"] == [{"id": str(quiet), "reason": "a process has it open"}]
        assert quiet.exists()
    assert run(tmp_path).measured["compressed_log_files"] == 1


def test_the_folder_of_LOG_DIR_is_cleaned_wherever_it_is(tmp_path: Path) -> None:  # noqa: N802
    put(tmp_path / "elsewhere/kb.log.1.gz", days_old=31)
    (tmp_path / "data").mkdir()
    assert run(tmp_path / "data", log_dir=tmp_path / "elsewhere").measured["removed_log_files"] == 1


def test_the_last_7_daily_snapshots_stay_however_old(tmp_path: Path) -> None:
    for days in range(40, 50):
        put_folder(tmp_path / f"snapshots/daily_{days}", days_old=days)
    put_folder(tmp_path / "snapshots/before-rebuild-old", days_old=31)
    put_folder(tmp_path / "snapshots/before-rebuild-new", days_old=29)
    assert run(tmp_path).measured["snapshot_files"] == 4
    assert {path.name for path in (tmp_path / "snapshots").iterdir()} == {
        *(f"daily_{days}" for days in range(40, 47)),
        "before-rebuild-new",
    }


def test_quarantine_and_results_go_after_30_days(tmp_path: Path) -> None:
    put_folder(tmp_path / "quarantine/old", days_old=31)
    put_folder(tmp_path / "quarantine/new", days_old=29)
    put(tmp_path / "maintenance/backup-old.json", days_old=31)
    put(tmp_path / "maintenance/.restore-old.done", days_old=31)
    put(tmp_path / "maintenance/backup-new.json", days_old=29)
    put(tmp_path / "maintenance/notes", days_old=99)
    run(tmp_path)
    assert left(tmp_path) == {"data.bin", "backup-new.json", "notes"}
    assert (tmp_path / "quarantine/new").is_dir()


@pytest.fixture
def backups(database: Database, tmp_path: Path) -> Path:
    """A good set of 40 days, a newer one whose size alone is right, and one that a killed run has begun."""
    fill(database, documents=3)
    folder = tmp_path / "backups"
    now = datetime.now(UTC)
    make_set(database.path, folder, now - timedelta(days=50))
    make_set(database.path, folder, now - timedelta(days=40))
    bad = make_set(database.path, folder, now - timedelta(days=35))
    (bad / DATABASE).write_bytes(b"x" * (bad / DATABASE).stat().st_size)
    put(sets_folder(folder) / ".partial-killed/database.db", days_old=1)
    return folder


def test_the_newest_good_backup_stays_whatever_its_age(database: Database, backups: Path) -> None:
    before = sorted(one.name for one in sets_folder(backups).iterdir() if not one.name.startswith("."))
    measured = run(database.path.parent, backup_dir=backups, retention=Retention(1, 1)).measured
    after = [one.name for one in sets_folder(backups).iterdir() if one.name != ".lock"]
    assert sorted(after) == before[1:]
    assert (measured["backup_files"], measured["leftover_files"]) == (1, 1)


def test_backups_are_left_while_one_is_being_made(database: Database, backups: Path) -> None:
    with sets_lock(backups):
        measured = run(database.path.parent, backup_dir=backups).measured
    assert "backup_files" not in measured
    assert "another backup" in str(measured["skipped"])


def test_a_dry_run_says_the_same_and_changes_nothing(database: Database, backups: Path) -> None:
    folder = database.path.parent
    put(folder / "temp/old", days_old=2)
    put(folder / "logs/kb.log.1", days_old=8)
    put_folder(folder / "quarantine/old", days_old=31)
    before = left(folder)
    planned = run(folder, backup_dir=backups, is_dry_run=True)
    assert left(folder) - {".lock"} == before
    assert planned.task == "clean-dry-run"
    assert planned.measured["paths"] == run(folder, backup_dir=backups).measured["paths"]


def test_only_the_kinds_that_were_asked_for(tmp_path: Path) -> None:
    put(tmp_path / "temp/old", days_old=2)
    put(tmp_path / "logs/kb.log.1.gz", days_old=31)
    run(tmp_path, kinds=("logs",))
    assert left(tmp_path) == {"old"}


def test_the_command_is_idempotent_by_its_attempt(tmp_path: Path) -> None:
    command = ["maintain", "clean", "--data-dir", str(tmp_path), "--attempt-id", "n1"]
    environment = {"TERMINATION_LOG": str(tmp_path / "none")}
    put(tmp_path / "temp/old", days_old=2)
    first = CliRunner().invoke(app, command, env=environment)
    assert first.exit_code == 0, first.output
    put(tmp_path / "temp/old", days_old=2)
    assert CliRunner().invoke(app, command, env=environment).output == first.output
    assert (tmp_path / "temp/old").exists()
    assert not list((tmp_path / "maintenance").glob(".running-*"))


def test_a_volume_that_is_not_there_is_refused(tmp_path: Path) -> None:
    result = run(tmp_path / "none")
    assert (result.ok, result.reason) == (False, "NoVolume")
    assert not (tmp_path / "none").exists()
