"""Taking a repair back: the file in quarantine in its place again, nothing of either lost."""

from collections.abc import Generator
from pathlib import Path

import pytest

from backup_world import prepared, put
from knowledgebeast_service.maintenance.check import check
from knowledgebeast_service.maintenance.restore.put_back import put_back
from knowledgebeast_service.maintenance.result import TaskResult
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.locks import VolumeLock
from knowledgebeast_service.storage.outbox import database_id, issued
from restore_world import NAME, RestoreWorld, contents, flip_pages, run_restore


@pytest.fixture
def world(tmp_path: Path) -> Generator[RestoreWorld]:
    world = RestoreWorld(tmp_path)
    yield world
    world.close()


@pytest.fixture
def gone_back(world: RestoreWorld) -> Path:
    """A whole database that somebody has restored to an old backup, and more numbers than either had."""
    world.fill(10)
    world.backup()
    world.fill(5, seed=2, first=10)
    data = world.crash()
    assert run_restore(data, world.backups, "wrong", backup="latest", only_backup=True).ok
    assert len(contents(data / NAME)) == 10
    return data


def undo(data: Path, *, of: str = "wrong", approve_loss: bool = False) -> TaskResult:
    return put_back(data / NAME, of, "undo", approve_loss=approve_loss, lock_wait_seconds=0)


def write(data: Path, name: str) -> None:
    database = Database(data / NAME)
    database.open()
    put(database, "p", [prepared(name, f"what {name} says")])
    database.close()


def numbers(data: Path) -> tuple[str, dict[str, int]]:
    database = Database(data / NAME)
    database.open()
    found = database.read_now(lambda connection: (database_id(connection), issued(connection)))
    database.close()
    return found


def everything_in(folder: Path) -> dict[str, bytes]:
    """But for what SQLite makes when it reads."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in (f"{NAME}-wal", f"{NAME}-shm")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_the_original_is_back_and_the_other_one_is_kept(world: RestoreWorld, gone_back: Path) -> None:
    kept = (gone_back / "quarantine" / "wrong" / NAME).read_bytes()
    restored = contents(gone_back / NAME)
    result = undo(gone_back)
    assert result.ok, result
    assert contents(gone_back / NAME) == world.acknowledged
    assert check(gone_back / NAME, "c").measured["damage"] == "none"
    assert contents(gone_back / "quarantine" / "undo" / NAME) == restored
    assert (gone_back / "quarantine" / "wrong" / NAME).read_bytes() == kept
    before = everything_in(gone_back)
    assert undo(gone_back) == result, "the same attempt again does nothing"
    assert everything_in(gone_back) == before


def test_numbers_go_on_above_those_of_both(gone_back: Path) -> None:
    for number in range(30):
        write(gone_back, f"new{number}")
    identity, given = numbers(gone_back)
    assert undo(gone_back, approve_loss=True).ok
    other, after = numbers(gone_back)
    assert other != identity
    assert all(after[name] >= number for name, number in given.items())


def test_what_was_written_since_needs_an_approval(world: RestoreWorld, gone_back: Path) -> None:
    write(gone_back, "since")
    before = everything_in(gone_back)
    refused = undo(gone_back)
    assert (refused.ok, refused.reason) == (False, "ExpectedLossTooHigh")
    assert refused.measured["given_up_documents"] == 1
    assert everything_in(gone_back) == before
    result = undo(gone_back, approve_loss=True)
    assert result.ok, result
    assert result.measured["given_up_documents"] == 1
    assert contents(gone_back / NAME) == world.acknowledged
    assert ("p", "since") in contents(gone_back / "quarantine" / "undo" / NAME)


def test_a_file_that_is_still_damaged_is_not_put_back(world: RestoreWorld, gone_back: Path) -> None:
    flip_pages(gone_back / "quarantine" / "wrong" / NAME, [3, 4, 5, 6])
    for path in (gone_back / "quarantine" / "wrong").glob(f"{NAME}-*"):
        path.unlink()
    before = everything_in(gone_back)
    refused = undo(gone_back)
    assert (refused.ok, refused.reason) == (False, "StillDamaged"), refused
    assert everything_in(gone_back) == before


@pytest.mark.parametrize("of", ["another", "", "..", "../data"])
def test_an_attempt_without_a_file_is_refused(gone_back: Path, of: str) -> None:
    before = everything_in(gone_back)
    refused = undo(gone_back, of=of)
    assert (refused.ok, refused.reason) == (False, "NothingToPutBack")
    assert "wrong" in str(refused.refused)
    assert everything_in(gone_back) == before


def test_it_is_refused_while_anyone_has_the_database_open(gone_back: Path) -> None:
    lock = VolumeLock(gone_back / NAME)
    lock.acquire(exclusive=False, wait_seconds=0)
    assert undo(gone_back).reason == "WritersPresent"
    lock.release()


def test_a_present_file_that_cannot_be_read_needs_an_approval(world: RestoreWorld, gone_back: Path) -> None:
    flip_pages(gone_back / NAME, [1])
    assert undo(gone_back).reason == "ExpectedLossTooHigh"
    assert undo(gone_back, approve_loss=True).ok
    assert contents(gone_back / NAME) == world.acknowledged
