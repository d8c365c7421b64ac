"""Restore: the newest good backup, everything newer that can be had, and nothing doubtful."""

import os
import shutil
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from knowledgebeast_service.maintenance.check import check
from knowledgebeast_service.maintenance.restore.base import with_base
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.head_mark import mark_path
from knowledgebeast_service.storage.locks import VolumeLock
from knowledgebeast_service.storage.outbox import issued
from restore_world import NAME, RestoreWorld, contents, flip_pages, pages_of, run_restore


@pytest.fixture
def world(tmp_path: Path) -> Generator[RestoreWorld]:
    world = RestoreWorld(tmp_path)
    yield world
    world.close()


@pytest.fixture
def damaged(world: RestoreWorld) -> Path:
    """A backup, shipped changes after it, unshipped ones after those; then a killed process and torn pages."""
    world.fill(40)
    world.backup()
    world.fill(10, seed=2, first=35)
    world.delete("d3")
    world.ship()
    world.put("late", "said when nothing was shipped any more")
    world.delete("d4")
    return tear(world.crash())


def tear(data: Path, table: str = "postings") -> Path:
    """Torn pages in a table that texts do not need."""
    checkpoint(data)
    flip_pages(data / NAME, pages_of(data / NAME, table)[-2:])
    return data


def checkpoint(data: Path) -> None:
    connection = Connection(data / NAME)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def everything_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_brings_back_backup_shipped_changes_and_what_is_still_readable(world: RestoreWorld, damaged: Path) -> None:
    before = (damaged / NAME).read_bytes()
    result = run_restore(damaged, world.backups)
    assert result.ok, result
    assert contents(damaged / NAME) == world.acknowledged
    assert result.measured["merged_changes"] == 11
    assert result.measured["salvaged_documents"] == 1
    loss = result.measured["loss"]
    assert isinstance(loss, dict)
    assert (loss["documents_lower"], loss["documents_upper"], loss["rpo_seconds"]) == (0, 0, 0)
    assert check(damaged / NAME, "c").measured["damage"] == "none"
    assert (damaged / "quarantine" / "a1" / NAME).read_bytes() == before


def test_a_mark_that_others_wrote_past_bounds_nothing(world: RestoreWorld) -> None:
    """By an older release, or by hand: how much more there was is not known."""
    world.fill(40)
    world.backup()
    early = mark_path(world.data / NAME).read_bytes()
    world.put("late", "shipped")
    world.ship()
    world.put("later", "not shipped")
    data = world.crash()
    mark_path(data / NAME).write_bytes(early)
    (data / NAME).unlink()
    loss = run_restore(data, world.backups).measured["loss"]
    assert isinstance(loss, dict)
    assert (loss["documents_lower"], loss["documents_upper"]) == (0, None)


def test_a_file_that_cannot_be_read_has_a_bound_by_its_mark(world: RestoreWorld) -> None:
    world.fill(40)
    world.backup()
    world.put("late", "shipped")
    world.ship()
    for name in ("d1", "d2", "d3"):
        world.put(name, "not shipped")
    data = world.crash()
    (data / NAME).unlink()
    loss = run_restore(data, world.backups).measured["loss"]
    assert isinstance(loss, dict)
    assert (loss["documents_lower"], loss["documents_upper"]) == (0, 3)


def test_the_same_attempt_again_gives_the_same_result_and_does_nothing(world: RestoreWorld, damaged: Path) -> None:
    first = run_restore(damaged, world.backups)
    before = everything_in(damaged)
    assert run_restore(damaged, world.backups) == first
    assert everything_in(damaged) == before


@pytest.mark.parametrize("backup", [None, "latest"])
def test_a_new_volume_is_filled_once_and_never_over_a_database(
    world: RestoreWorld, tmp_path: Path, backup: str | None
) -> None:
    world.fill(5)
    world.backup()
    new = tmp_path / "new"
    new.mkdir()
    before = everything_in(world.backups)
    assert run_restore(new, world.backups, backup=backup).reason == "WrongVolume"
    filled = run_restore(new, world.backups, new_volume=True, backup=backup)
    assert filled.ok, filled
    assert contents(new / NAME) == world.acknowledged
    assert everything_in(world.backups) == before, "the backups of the other object are only read"
    database = (new / NAME).read_bytes()
    again = run_restore(new, world.backups, "another-attempt", new_volume=True, backup=backup)
    assert (again.ok, again.reason) == (False, "NothingToRepair")
    assert (new / NAME).read_bytes() == database


def test_a_good_database_is_left_alone_unless_a_backup_is_named(world: RestoreWorld) -> None:
    world.fill(5)
    world.backup()
    world.put("d0", "changed by mistake")
    data = world.crash()
    refused = run_restore(data, world.backups)
    assert (refused.ok, refused.reason) == (False, "NothingToRepair")
    assert contents(data / NAME) == world.acknowledged
    gone_back = run_restore(data, world.backups, "a2", backup="latest", only_backup=True)
    assert gone_back.ok
    assert contents(data / NAME)["p", "d0"] != "changed by mistake"
    named = run_restore(data, world.backups, "a3", backup="20200101T000000Z-1")
    assert named.reason == "UnknownBackup"


def test_is_refused_while_anyone_has_the_database_open(world: RestoreWorld, damaged: Path) -> None:
    lock = VolumeLock(damaged / NAME)
    lock.acquire(exclusive=False, wait_seconds=0)
    before = everything_in(damaged)
    assert run_restore(damaged, world.backups).reason == "WritersPresent"
    lock.release()
    lock.acquire(exclusive=True, wait_seconds=0)
    assert run_restore(damaged, world.backups).reason == "InProgress"
    lock.release()
    assert everything_in(damaged) == before


def test_what_is_written_after_a_restore_survives_the_next_damage(
    world: RestoreWorld, damaged: Path, tmp_path: Path
) -> None:
    """A restored database has a new identity: without a backup of that, its shipped changes would have no beginning."""
    first = with_base(run_restore(damaged, world.backups), damaged / NAME, world.backups, lambda _step: None)
    assert first.measured["base_backup_id"]
    shutil.copytree(damaged, tmp_path / "again" / "data")
    again = RestoreWorld(tmp_path / "again", dict(world.acknowledged))
    again.backups, again.shipped_to = world.backups, again.head
    again.put("after", "written when the restored database had not been backed up by the clock")
    again.ship()
    lost = again.crash()
    again.close()
    (lost / NAME).unlink()
    second = run_restore(lost, world.backups, attempt="a2")
    assert second.ok, second
    assert contents(lost / NAME) == again.acknowledged


def test_what_fills_a_new_volume_is_backed_up_before_anybody_is_served(world: RestoreWorld, tmp_path: Path) -> None:
    """The volume had no identity, and a backup is made of no volume without one."""
    world.fill(5)
    world.backup()
    new = tmp_path / "new"
    new.mkdir()
    filled = run_restore(new, world.backups, new_volume=True)
    result = with_base(filled, new / NAME, tmp_path / "own", lambda _step: None)
    (own,) = [folder.name for folder in (tmp_path / "own" / "sets").iterdir() if folder.is_dir()]
    assert result.measured["base_backup_id"] == own


def test_a_backup_that_fails_takes_nothing_from_the_restore(world: RestoreWorld, damaged: Path, tmp_path: Path) -> None:
    (tmp_path / "full").write_text("no folder")
    result = with_base(run_restore(damaged, world.backups), damaged / NAME, tmp_path / "full", lambda _step: None)
    assert result.ok
    assert "no backup yet (Io: " in str(result.measured["findings"])


def test_numbers_go_on_above_the_highest_ever_given(world: RestoreWorld, damaged: Path) -> None:
    highest = world.database.read_now(issued)
    old_uid = world.database.read_now(lambda connection: connection.row("SELECT uid, seq FROM projects"))
    assert run_restore(damaged, world.backups).ok
    restored = Database(damaged / NAME)
    restored.open()
    after = restored.read_now(issued)
    uid = restored.read_now(lambda connection: connection.row("SELECT uid, seq FROM projects"))
    restored.close()
    assert all(after[name] >= number for name, number in highest.items())
    assert old_uid is not None
    assert uid is not None
    assert uid[0] == old_uid[0]
    assert uid[1] > old_uid[1]


def test_without_the_end_of_the_log_numbers_leave_a_wide_gap(world: RestoreWorld) -> None:
    world.fill(5)
    world.backup()
    world.put("late", "lost for good")
    highest = world.database.read_now(issued)
    data = world.crash()
    (data / NAME).unlink()
    result = run_restore(data, world.backups)
    assert result.ok
    connection = Connection(data / NAME)
    assert issued(connection)["chunks"] > highest["chunks"] + 100_000
    connection.close()


def test_no_proof_is_left_for_a_keyword_index_of_the_old_file(world: RestoreWorld) -> None:
    world.fill(5)
    world.database.write_now(
        lambda connection: connection.execute("INSERT INTO index_marks VALUES ('tag', 5, unixepoch('subsec'))")
    )
    world.backup()
    data = tear(world.crash())
    assert run_restore(data, world.backups).ok
    connection = Connection(data / NAME)
    assert connection.number("SELECT count(*) FROM index_marks") == 0
    connection.close()


def test_nothing_is_changed_when_no_backup_is_good(world: RestoreWorld, damaged: Path) -> None:
    for folder in (world.backups / "sets").iterdir():
        flip_pages(folder / "database.db", [5])
    before = everything_in(damaged)
    result = run_restore(damaged, world.backups)
    assert (result.ok, result.reason) == (False, "NoVerifiedBackup")
    skipped = cast("list[dict[str, str]]", result.measured["skipped"])
    assert [one["reason"] for one in skipped] == ["WrongChecksum"]
    assert everything_in(damaged) == before


def test_more_than_an_hour_of_possible_loss_needs_an_approval(world: RestoreWorld) -> None:
    world.fill(5)
    world.backup(datetime.now(UTC) - timedelta(hours=2))
    world.put("late", "written after the backup")
    data = world.crash()
    (data / NAME).write_bytes(b"no database " * 1000)
    (data / f"{NAME}-wal").unlink()
    before = everything_in(data)
    result = run_restore(data, world.backups)
    assert (result.ok, result.reason) == (False, "ExpectedLossTooHigh")
    assert everything_in(data) == before
    approved = run_restore(data, world.backups, "a2", approve_loss=True)
    assert approved.ok
    assert ("p", "late") not in contents(data / NAME)


def test_a_salvaged_document_never_replaces_a_newer_one(world: RestoreWorld) -> None:
    world.fill(5)
    world.put("d1", "the older text")
    stale = world.crash("stale")
    world.put("d1", "the newer text")
    world.backup()
    data = world.folder / "mixed"
    os.rename(stale, data)  # noqa: PTH104
    tear(data)
    result = run_restore(data, world.backups)
    assert result.ok
    assert contents(data / NAME)["p", "d1"] == "the newer text"


def test_a_document_that_cannot_be_proved_is_left_out_and_named(world: RestoreWorld) -> None:
    world.fill(5)
    world.backup()
    world.put("late", "a word that will be damaged")
    data = tear(world.crash())
    path = data / NAME
    path.write_bytes(path.read_bytes().replace(b"will be damaged", b"will be DAMAGED"))
    result = run_restore(data, world.backups)
    assert result.ok
    assert ("p", "late") not in contents(path)
    loss = result.measured["loss"]
    assert isinstance(loss, dict)
    assert (loss["documents_lower"], loss["documents_upper"]) == (1, 1)
    assert loss["ingest_again"] == [{"project": "p", "id": "late"}]


def test_a_full_volume_is_refused_with_the_numbers(
    world: RestoreWorld, damaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nearly_full(_path: Path) -> SimpleNamespace:
        return SimpleNamespace(free=1000)

    monkeypatch.setattr("shutil.disk_usage", nearly_full)
    before = everything_in(damaged)
    result = run_restore(damaged, world.backups)
    assert result.reason == "DiskFull"
    assert everything_in(damaged) == before


def test_the_log_of_the_old_file_goes_with_it(world: RestoreWorld) -> None:
    """Left behind, it would be applied to the new file: silently undone, or damaged."""
    world.fill(20)
    world.backup()
    world.fill(20, seed=9)
    data = world.crash()
    log = (data / f"{NAME}-wal").read_bytes()
    assert log
    result = run_restore(data, world.backups, backup="latest", only_backup=True)
    assert result.ok
    assert not (data / f"{NAME}-wal").exists()
    assert (data / "quarantine" / "a1" / f"{NAME}-wal").read_bytes() == log


def test_numbers_of_what_is_given_up_are_not_given_again(world: RestoreWorld) -> None:
    world.fill(5)
    world.backup()
    world.fill(30, seed=4, first=5)
    highest = world.database.read_now(issued)
    data = world.crash()
    assert run_restore(data, world.backups, backup="latest", only_backup=True).ok
    connection = Connection(data / NAME)
    after = issued(connection)
    connection.close()
    assert all(after[name] >= number for name, number in highest.items())
