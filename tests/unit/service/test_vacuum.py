"""`maintain vacuum`: when it is worth it, when there is no room, and that others can go on meanwhile."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from backup_world import fill, prepared, put
from knowledgebeast_service.cli.app import app
from knowledgebeast_service.maintenance import vacuum as module
from knowledgebeast_service.maintenance.vacuum import vacuum
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.documents import delete_project
from knowledgebeast_service.storage.locks import VolumeLock, WriteLock


def empty(database: Database) -> None:
    """Most of what was in it has been deleted; the file is as large as before."""
    fill(database, "gone", documents=400)
    fill(database, "kept", documents=20)
    database.write_now(lambda connection: delete_project(connection, "gone"))
    beside = Connection(database.path)
    beside.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    beside.close()


@pytest.fixture
def emptied(database: Database) -> Database:
    empty(database)
    return database


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """Such a file that nobody has open."""
    database = Database(tmp_path / "closed" / "knowledgebeast.db")
    database.open()
    empty(database)
    database.close()
    return database.path


def test_unused_pages_are_given_back_and_the_documents_stay(emptied: Database) -> None:
    before = emptied.path.stat().st_size
    result = vacuum(emptied.path, "a")
    assert result.ok, result
    assert emptied.path.stat().st_size < before / 2
    assert result.measured["bytes_after"] == emptied.path.stat().st_size
    assert result.measured["is_log_emptied"] is True
    assert int(str(result.measured["unused_bytes_before"])) > 0
    assert emptied.read_now(lambda connection: connection.number("SELECT count(*) FROM documents")) == 20
    put(emptied, "kept", [prepared("new", "written afterwards")])  # by the connection that was open all the time


def test_few_unused_pages_are_not_worth_it(database: Database) -> None:
    fill(database, documents=50)
    result = vacuum(database.path, "a")
    assert (result.ok, result.reason) == (False, "FewFreePages")
    assert "25%" in str(result.refused)


def test_a_full_disk_is_refused_with_the_numbers(emptied: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """VACUUM would make it worse."""
    size = emptied.path.stat().st_size

    def nearly_enough(_folder: Path) -> int:
        return 2 * size - 1

    monkeypatch.setattr(module, "free_bytes", nearly_enough)
    result = vacuum(emptied.path, "a")
    assert (result.ok, result.reason) == (False, "NoRoom")
    assert f"{2 * size:,}" in str(result.refused)
    assert f"{2 * size - 1:,}" in str(result.refused)
    assert emptied.path.stat().st_size == size


def test_it_waits_for_no_writer_for_ever(emptied: Database) -> None:
    writing = WriteLock(emptied.path)
    with writing.hold(1):
        assert vacuum(emptied.path, "a", lock_wait_seconds=0.1).reason == "InProgress"
    writing.close()
    assert vacuum(emptied.path, "a", lock_wait_seconds=0.1).ok


def test_it_does_not_touch_a_file_that_is_being_repaired(closed: Path) -> None:
    repairing = VolumeLock(closed)
    repairing.acquire(exclusive=True, wait_seconds=1)
    assert vacuum(closed, "a", lock_wait_seconds=0.1).reason == "InProgress"
    repairing.release()
    assert vacuum(closed, "a", lock_wait_seconds=0.1).ok


def test_a_reader_goes_on_with_what_it_sees(emptied: Database) -> None:
    reader = Connection(emptied.path, read_only=True)
    with reader.transaction():
        before = reader.number("SELECT count(*) FROM documents")
        module_seconds, module.CHECKPOINT_SECONDS = module.CHECKPOINT_SECONDS, 0.2
        try:
            result = vacuum(emptied.path, "a")
        finally:
            module.CHECKPOINT_SECONDS = module_seconds
        assert (result.ok, result.measured["is_log_emptied"]) == (True, False)
        assert reader.number("SELECT count(*) FROM documents") == before
    reader.close()


def test_a_damaged_file_is_left_alone(closed: Path) -> None:
    content = bytearray(closed.read_bytes())
    content[8192:12288] = b"\xff" * 4096
    closed.write_bytes(content)
    result = vacuum(closed, "a")
    assert (result.ok, result.reason) == (False, "Damaged")
    assert closed.read_bytes() == content


def test_damage_that_vacuum_itself_would_not_notice_is_found_before(closed: Path) -> None:
    """The list of unused pages is longer than it says (file format, offset 36)."""
    content = bytearray(closed.read_bytes())
    content[36:40] = (int.from_bytes(content[36:40], "big") - 3).to_bytes(4, "big")
    closed.write_bytes(content)
    assert vacuum(closed, "a").reason == "Damaged"


def test_no_database_is_refused_and_none_is_made(tmp_path: Path) -> None:
    assert vacuum(tmp_path / "knowledgebeast.db", "a").reason == "NoDatabase"
    assert not list(tmp_path.iterdir())


def test_the_command_says_what_it_did(emptied: Database) -> None:
    folder = str(emptied.path.parent)
    command = ["maintain", "vacuum", "--data-dir", folder, "--attempt-id", "v1"]
    first = CliRunner().invoke(app, command, env={"TERMINATION_LOG": f"{folder}/none"})
    assert first.exit_code == 0, first.output
    assert '"task": "vacuum"' in first.output
