"""Bad backups: each is passed over with its reason, the newest good one is taken, and without one nothing happens."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest

from backup_world import write_manifest
from knowledgebeast_service.maintenance.backups.manifest import read_manifest
from knowledgebeast_service.storage.connection import Connection
from restore_world import NAME, RestoreWorld, contents, flip_pages, run_restore


def ago(minutes: int) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=minutes)


@pytest.fixture
def world(tmp_path: Path) -> RestoreWorld:
    """A good backup, not so old that its loss would need an approval; the bad ones are newer."""
    world = RestoreWorld(tmp_path)
    world.fill(20)
    world.backup(ago(55))
    return world


def spoil(folder: Path, sql: str, data: Path) -> None:
    """Another content, with a manifest that fits it."""
    manifest = read_manifest(folder)
    connection = Connection(folder / "database.db")
    connection.execute(f"PRAGMA foreign_keys = OFF; {sql}; PRAGMA journal_mode = DELETE")
    connection.close()
    write_manifest(folder, data, manifest.created_at)


def bad_sets(world: RestoreWorld) -> dict[str, str]:
    """One of each kind, newer than the good one: reason by id."""
    expected: dict[str, str] = {}

    def new(minutes: int, reason: str) -> Path:
        folder = world.backup(ago(minutes))
        expected[folder.name] = reason
        return folder

    flip_pages(new(50, "WrongChecksum") / "database.db", [4])
    database = new(49, "WrongSize") / "database.db"
    database.write_bytes(database.read_bytes()[:8192])
    (new(48, "Empty") / "database.db").write_bytes(b"")
    (new(47, "NoManifest") / "manifest.json").unlink()
    (new(46, "BadManifest") / "manifest.json").write_text("{")
    spoil(new(45, "WrongSchema"), "DROP TABLE tasks", world.data)
    spoil(
        new(44, "BrokenReferences"), "DELETE FROM postings; DELETE FROM chunks WHERE id < 9; DROP TRIGGER "
        "outbox_document_deleted; DELETE FROM projects", world.data,
    )  # fmt: skip
    other = new(43, "OtherVolume") / "manifest.json"
    other.write_text(other.read_text().replace('"volume_id": "', '"volume_id": "of-another-'))
    spoil(new(42, "WrongCounts"), "DELETE FROM postings", world.data)
    (new(41, "Empty") / "database.db").unlink()
    partial = world.backup(ago(40))
    partial.rename(partial.with_name(".partial-b7"))
    return expected


def test_all_at_once_are_passed_over_with_their_reasons(world: RestoreWorld) -> None:
    expected = bad_sets(world)
    data = world.crash()
    (data / NAME).write_bytes(b"")
    (data / f"{NAME}-wal").unlink()
    result = run_restore(data, world.backups)
    assert result.ok, result
    skipped = cast("list[dict[str, str]]", result.measured["skipped"])
    assert {one["id"]: one["reason"] for one in skipped} == expected
    assert contents(data / NAME) == world.acknowledged
    world.close()


def test_only_bad_ones_change_nothing(world: RestoreWorld) -> None:
    good = next((world.backups / "sets").iterdir())
    expected = bad_sets(world)
    shutil.rmtree(good)
    data = world.crash()
    (data / NAME).write_bytes(b"")
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    result = run_restore(data, world.backups)
    assert (result.ok, result.reason) == (False, "NoVerifiedBackup")
    skipped = cast("list[dict[str, str]]", result.measured["skipped"])
    assert {one["id"]: one["reason"] for one in skipped} == expected | {".partial-b7": "InProgress"}
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before
    world.close()


def test_a_named_one_that_is_bad_is_not_replaced_by_another(world: RestoreWorld) -> None:
    bad = next(iter(bad_sets(world)))
    data = world.crash()
    (data / NAME).write_bytes(b"")
    result = run_restore(data, world.backups, backup=bad)
    assert (result.ok, result.reason) == (False, "NoVerifiedBackup")
    world.close()


def test_one_that_is_old_is_not_passed_over_but_asked_about(world: RestoreWorld) -> None:
    """Its age is no fault of it: what would be lost with it is for a person to allow."""
    shutil.rmtree(next((world.backups / "sets").iterdir()))
    old = world.backup(ago(180))
    backed_up = dict(world.acknowledged)
    expected = bad_sets(world)
    world.put("late", "written after the backup, and not shipped")
    data = world.crash()
    (data / NAME).write_bytes(b"")
    (data / f"{NAME}-wal").unlink()
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    asked = run_restore(data, world.backups)
    assert (asked.ok, asked.reason) == (False, "ExpectedLossTooHigh")
    assert "from 3.0 h may be lost, the limit is 1 h. Nothing was changed." in str(asked.refused)
    assert asked.measured["backup_id"] == old.name
    skipped = cast("list[dict[str, str]]", asked.measured["skipped"])
    assert {one["id"]: one["reason"] for one in skipped} == expected
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before
    approved = run_restore(data, world.backups, "approved", approve_loss=True)
    assert approved.ok, approved
    assert contents(data / NAME) == backed_up
    world.close()
