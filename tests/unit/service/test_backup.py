import asyncio
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backup_world import fill, make_set, prepared, put
from knowledgebeast_service.maintenance.backups import copying, create
from knowledgebeast_service.maintenance.backups.catalogue import judge_all
from knowledgebeast_service.maintenance.backups.create import backup, sets_lock
from knowledgebeast_service.maintenance.backups.drill import drill
from knowledgebeast_service.maintenance.backups.manifest import DATABASE, sets_folder
from knowledgebeast_service.maintenance.backups.prune import prune_changes, prune_sets
from knowledgebeast_service.maintenance.backups.retention import Retention
from knowledgebeast_service.maintenance.result import TaskResult
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.locks import VolumeLock
from knowledgebeast_service.storage.outbox import database_id, head


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    return tmp_path / "backups"


def run(database: Database, backups: Path, attempt: str = "a", retention: Retention | None = None) -> TaskResult:
    return backup(database.path, backups, attempt, retention or Retention())


def names(backups: Path) -> list[str]:
    return sorted(one.name for one in sets_folder(backups).iterdir() if one.name != ".lock")


def test_a_backup_holds_what_was_committed_and_says_so(database: Database, backups: Path) -> None:
    fill(database, documents=20)
    result = run(database, backups)
    assert (result.ok, result.refused, result.reason) == (True, None, None)
    (verdict,) = judge_all(backups)
    assert verdict.ok
    assert result.measured["backup_id"] == verdict.id
    assert (result.measured["documents"], result.measured["chunks"]) == (20, 40)
    assert result.measured["seq"] == database.read_now(head)


def test_a_writer_beside_it_loses_nothing_and_the_copy_is_of_one_instant(database: Database, backups: Path) -> None:
    fill(database, documents=300)
    asked = iter(range(1000))

    async def race() -> TaskResult:
        making = asyncio.create_task(asyncio.to_thread(run, database, backups))
        while not making.done():
            name = f"new{next(asked)}"
            await asyncio.to_thread(put, database, "p", [prepared(name, "one"), prepared(f"{name}b", "two")])
        return await making

    result = asyncio.run(race())
    written = next(asked)
    assert result.ok
    assert written > 1
    documents = result.measured["documents"]
    assert isinstance(documents, int)
    assert documents % 2 == 0
    assert 300 <= documents <= 300 + 2 * written
    assert (
        database.read_now(lambda connection: connection.number("SELECT count(*) FROM documents")) == 300 + 2 * written
    )


def test_the_same_attempt_makes_one_set(database: Database, backups: Path) -> None:
    fill(database)
    first = run(database, backups, "same")
    put(database, "p", [prepared("more", "text")])
    assert run(database, backups, "same").measured["backup_id"] == first.measured["backup_id"]
    assert len(judge_all(backups)) == 1
    assert run(database, backups, "other").measured["backup_id"] != first.measured["backup_id"]


def test_two_backups_of_one_second_are_two_sets(database: Database, backups: Path) -> None:
    fill(database)
    made = {str(run(database, backups, attempt).measured["backup_id"]) for attempt in ("a", "b", "c")}
    assert len(made) == 3
    assert {one.id for one in judge_all(backups)} == made


def test_what_killed_runs_left_goes_with_the_next_one(database: Database, backups: Path) -> None:
    fill(database)
    for name in (".partial-old", ".removed-old"):
        (sets_folder(backups) / name).mkdir(parents=True)
        (sets_folder(backups) / name / DATABASE).write_bytes(b"half")
    result = run(database, backups)
    assert names(backups) == [result.measured["backup_id"]]


def test_old_sets_go_but_only_after_a_good_one_is_there(database: Database, backups: Path) -> None:
    fill(database)
    now = datetime.now(UTC)
    ancient = make_set(database.path, backups, now - timedelta(days=50))
    old = make_set(database.path, backups, now - timedelta(days=40))
    (old / DATABASE).write_bytes(b"x" * (old / DATABASE).stat().st_size)  # its size and manifest are right
    recent_bad = make_set(database.path, backups, now - timedelta(hours=1))
    (recent_bad / DATABASE).write_bytes(b"")
    volume = database.path.with_name("volume.json")
    volume.rename(volume.with_suffix(".away"))
    assert run(database, backups).reason == "WrongVolume"
    assert len(names(backups)) == 3
    volume.with_suffix(".away").rename(volume)
    result = run(database, backups, "b")
    assert result.measured["pruned"] == [ancient.name, old.name]
    assert names(backups) == sorted([recent_bad.name, str(result.measured["backup_id"])])


def test_the_only_set_that_passes_is_kept_however_old(database: Database, backups: Path) -> None:
    fill(database)
    now = datetime.now(UTC)
    good = make_set(database.path, backups, now - timedelta(days=90))
    rotten = make_set(database.path, backups, now - timedelta(days=80))
    content = bytearray((rotten / DATABASE).read_bytes())
    content[-100] ^= 1
    (rotten / DATABASE).write_bytes(content)
    assert prune_sets(backups, Retention()) == []
    assert good.name in names(backups)


def test_a_volume_without_room_is_left_alone(
    database: Database, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(database)
    kept = make_set(database.path, backups, datetime.now(UTC) - timedelta(days=90))

    def almost_full(_folder: Path) -> int:
        return 1000

    monkeypatch.setattr(create, "free_bytes", almost_full)
    result = run(database, backups)
    assert (result.ok, result.reason) == (False, "DiskFull")
    assert "1,000 free" in (result.refused or "")
    assert names(backups) == [kept.name]


def drop_text(path: Path) -> None:
    connection = Connection(path)
    connection.execute("UPDATE chunks SET text = 'lost'")
    connection.close()


def lose_rows(path: Path) -> None:
    connection = Connection(path)
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute("DELETE FROM postings WHERE chunk_id = 1")
    connection.close()


def scribble(path: Path) -> None:
    """A damaged page of a table, as it is on disk; the log is emptied first."""
    connection = Connection(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    root = connection.number("SELECT rootpage FROM sqlite_schema WHERE name = 'chunks'")
    connection.close()
    descriptor = os.open(path, os.O_WRONLY)
    os.pwrite(descriptor, b"\xa5" * 4096, (root - 1) * 4096)
    os.close(descriptor)


@pytest.mark.parametrize(
    ("damage", "reason"), [(drop_text, "NoAnswer"), (lose_rows, "WrongCounts"), (scribble, "Unreadable")]
)
def test_a_damaged_database_makes_no_backup(
    damage: Callable[[Path], None], reason: str, tmp_path: Path, backups: Path
) -> None:
    database = Database(tmp_path / "knowledgebeast.db")
    database.open()
    fill(database)
    good = make_set(database.path, backups)
    database.close()
    damage(database.path)
    result = backup(database.path, backups, "a", Retention())
    assert (result.ok, result.reason) == (False, reason)
    assert names(backups) == [good.name]


def test_a_database_that_went_back_in_time_makes_no_backup(database: Database, backups: Path, tmp_path: Path) -> None:
    fill(database)
    older = make_set(database.path, tmp_path / "elsewhere")
    put(database, "p", [prepared("more", "text")])
    run(database, backups)
    database.close()
    shutil.copy(older / DATABASE, database.path)
    result = backup(database.path, backups, "b", Retention())
    database.open()  # for the fixture to close
    assert result.reason == "WrongCounts"
    assert "went back in time" in (result.refused or "")


def test_two_backups_at_once_and_an_exclusive_task_refuse_each_other(
    database: Database, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(database)
    with sets_lock(backups):
        assert run(database, backups).reason == "InProgress"
    monkeypatch.setattr(create, "LOCK_WAIT_SECONDS", 0.0)
    database.close()
    restore = VolumeLock(database.path)
    restore.acquire(exclusive=True, wait_seconds=0)
    assert run(database, backups).reason == "InProgress"
    restore.release()
    database.open()


def test_a_log_that_grows_past_its_bound_ends_the_copying(
    database: Database, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(database)

    def slow_copy(connection: Connection, _target: Path) -> None:
        """With the writers of an hour beside it."""
        put(database, "p", [prepared("big", "word " * 200_000)])
        numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
        list(connection.rows(numbers))  # has no end but an interruption

    def megabyte(_database_bytes: int, _free_bytes: int) -> int:
        return 1_000_000

    monkeypatch.setattr(copying, "log_limit", megabyte)
    monkeypatch.setattr(copying, "_vacuum_into", slow_copy)
    result = run(database, backups)
    assert (result.ok, result.reason) == (False, "LogGrowth")
    assert names(backups) == []


def test_the_log_may_grow_as_large_as_the_database_but_not_fill_the_volume() -> None:
    gib = 1024**3
    assert copying.log_limit(1000, 100 * gib) == copying.LOG_ALLOWANCE_BYTES
    assert copying.log_limit(4 * gib, 100 * gib) == 4 * gib
    assert copying.log_limit(4 * gib, 2 * gib) == gib


def test_content_is_on_disk_before_a_set_gets_its_name(
    database: Database, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(database)
    synced: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def recorded_fsync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115
        fsync(descriptor)

    def recorded_rename(path: Path, target: Path) -> Path:
        synced.append(f"{path} -> {target}")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(Path, "rename", recorded_rename)
    result = run(database, backups)
    partial = sets_folder(backups) / ".partial-a"
    published = synced.index(f"{partial} -> {sets_folder(backups) / str(result.measured['backup_id'])}")
    assert synced.index(str(partial / DATABASE)) < synced.index(f"{partial / '.manifest.json.tmp'}") < published
    assert str(partial) in synced[:published]
    assert synced[published + 1] == str(sets_folder(backups))


def test_segments_go_when_every_kept_set_holds_their_changes(database: Database, backups: Path) -> None:
    fill(database, documents=9)  # changes 1 to 10
    make_set(database.path, backups)
    own = database.read_now(database_id)
    for folder, segment in ((own, "1-5"), (own, "6-10"), (own, "11-20"), ("gone", "1-5")):
        first, last = segment.split("-")
        path = backups / "changes" / folder / f"{int(first):012}-{int(last):012}.jsonl.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert len(prune_changes(backups, own)) == 3
    assert [one.name for one in (backups / "changes").rglob("*.gz")] == ["000000000011-000000000020.jsonl.gz"]


def test_segments_stay_while_there_is_no_set(database: Database, backups: Path) -> None:
    path = backups / "changes" / "x" / "000000000001-000000000005.jsonl.gz"
    path.parent.mkdir(parents=True)
    path.touch()
    assert prune_changes(backups, database.read_now(database_id)) == []
    assert path.exists()


def test_a_drill_restores_the_newest_good_set_and_cleans_up(database: Database, backups: Path, tmp_path: Path) -> None:
    fill(database, documents=20)
    good = make_set(database.path, backups)
    bad = make_set(database.path, backups, datetime.now(UTC) + timedelta(seconds=60))
    (bad / DATABASE).write_bytes(b"")
    scratch = tmp_path / "scratch"
    result = drill(backups, scratch, "weekly")
    assert result.ok
    assert result.measured["backup_id"] == good.name
    assert result.measured["documents"] == 20
    assert result.measured["skipped"] == [{"id": bad.name, "reason": "Empty"}]
    assert isinstance(result.measured["seconds"], float)
    assert list(scratch.iterdir()) == []


def test_a_drill_without_a_good_set_says_so(backups: Path, tmp_path: Path) -> None:
    result = drill(backups, tmp_path / "scratch", "weekly")
    assert (result.ok, result.reason) == (False, "NoVerifiedBackup")
