"""A service over a damaged database: it starts, says so, answers what it can, acknowledges nothing, changes nothing."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from knowledgebeast_service.errors import DatabaseError, DatabaseReplacedError
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.documents import upsert_documents
from knowledgebeast_service.storage.queries import change_head
from knowledgebeast_service.storage.watch import look
from restore_world import NAME, RestoreWorld, contents, document, flip_pages, pages_of


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A closed database of 60 documents."""
    world = RestoreWorld(tmp_path)
    world.fill(60)
    world.close()
    return world.data


def other_application(path: Path) -> None:
    path.unlink()
    connection = apsw.Connection(str(path))
    for _ in connection.execute("CREATE TABLE notes (text); INSERT INTO notes VALUES ('theirs')"):  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        pass
    connection.close()


def emptied(path: Path) -> None:
    path.unlink()
    connection = Connection(path)
    connection.execute("CREATE TABLE t (x); DROP TABLE t")
    connection.close()


DAMAGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "missing": ("missing", Path.unlink),
    "zero length": ("empty", lambda path: path.write_bytes(b"")),
    "a text in its place": ("not-a-database", lambda path: path.write_text("some text\n" * 500)),
    "shorter than a header": ("not-a-database", lambda path: path.write_bytes(path.read_bytes()[:50])),
    "cut off": ("pages", lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])),
    "of another application": ("schema", other_application),
    "without tables": ("schema", emptied),
    "a torn schema": ("pages", lambda path: path.write_bytes(path.read_bytes()[:100] + b"\xff" * 9999)),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_is_not_opened_and_not_changed(data: Path, kind: str) -> None:
    damage, inflict = DAMAGES[kind]
    inflict(data / NAME)
    before = {path: path.read_bytes() for path in data.glob(f"{NAME}*") if path.suffix in ("", ".db")}
    errors: list[str] = []
    database = Database(data / NAME, on_error=errors.append)
    database.open()
    assert database.damage.damage == damage
    assert not database.is_open
    assert errors == ["corrupt"]
    with pytest.raises(DatabaseError, match=damage):
        database.read_now(change_head)
    with pytest.raises(DatabaseError, match=damage):
        database.write_now(lambda connection: upsert_documents(connection, "p", [document("x", "text")]))
    database.close()
    assert {path: path.read_bytes() for path in before} == before
    assert (data / NAME).exists() == (kind != "missing")


def test_it_is_opened_as_soon_as_it_is_good_again(data: Path, tmp_path: Path) -> None:
    shutil.move(data / NAME, tmp_path / "aside")
    database = Database(data / NAME)
    database.open()
    look(database)
    assert not database.is_open
    shutil.move(tmp_path / "aside", data / NAME)
    look(database)
    assert database.damage.is_good
    assert database.read_now(change_head) > 60
    database.close()


def test_nothing_is_made_while_a_repair_is_half_done(data: Path) -> None:
    (data / "restore.json").write_text('{"step": "quarantined", "task": "restore", "attempt": "a1"}')
    (data / NAME).unlink()
    database = Database(data / NAME)
    database.open()
    assert "restore a1 was interrupted: run it again" in str(database.damage)
    assert not (data / NAME).exists()


def test_a_new_volume_gets_a_database_even_after_a_crash_in_its_first_start(tmp_path: Path) -> None:
    (tmp_path / NAME).touch()
    (tmp_path / "volume.json").write_text('{"volume_id": "v", "created_at": 1.0, "has_database": false}')
    database = Database(tmp_path / NAME)
    database.open()
    assert database.is_open
    database.close()
    (tmp_path / NAME).unlink()
    again = Database(tmp_path / NAME)
    again.open()
    assert again.damage.damage == "missing"


@pytest.mark.parametrize(("table", "rounds"), [("chunks", 60), ("documents", 60), ("sqlite_schema", 1)])
def test_torn_pages_are_noticed_by_looking_and_writing_ends(data: Path, table: str, rounds: int) -> None:
    errors: list[str] = []
    database = Database(data / NAME, on_error=errors.append)
    database.open()
    database.read_now(change_head)
    pages = [1] if table == "sqlite_schema" else pages_of(data / NAME, table)
    flip_pages(data / NAME, pages)
    for _ in range(rounds):
        look(database)
    assert database.damage.damage == "pages"
    assert "corrupt" in errors
    with pytest.raises(DatabaseError, match="nothing is written"):
        database.write_now(lambda connection: upsert_documents(connection, "p", [document("x", "text")]))
    database.close()


@pytest.mark.parametrize("damage", ["missing", "empty"])
def test_a_lost_file_is_noticed_by_looking(data: Path, damage: str) -> None:
    database = Database(data / NAME)
    database.open()
    if damage == "missing":
        (data / NAME).unlink()
    else:
        os.truncate(data / NAME, 0)
    look(database)
    assert database.damage.damage == damage
    database.close()


def test_a_reader_that_comes_after_the_loss_makes_no_empty_file(data: Path) -> None:
    """It would be found there by the next look, and by every other reader."""
    database = Database(data / NAME)
    database.open()
    (data / NAME).unlink()
    with pytest.raises(DatabaseError, match="refused"):
        database.read_now(change_head)
    assert not (data / NAME).exists()
    look(database)
    assert database.damage.damage == "missing"
    database.close()


def test_a_healthy_database_is_looked_at_without_a_finding(data: Path) -> None:
    database = Database(data / NAME)
    database.open()
    for _ in range(50):
        look(database)
    assert database.damage.is_good
    database.close()


def test_a_writer_of_the_old_file_gets_no_answer_and_takes_no_log_with_it(data: Path, tmp_path: Path) -> None:
    """As a process does that was stopped before a restore and goes on after it."""
    stale = Database(data / NAME)
    stale.open()
    stale.write_now(lambda connection: upsert_documents(connection, "p", [document("before", "text")]))
    quarantine = tmp_path / "quarantine"
    quarantine.mkdir()
    copy = tmp_path / "copy"
    shutil.copyfile(data / NAME, copy)
    for path in data.glob(f"{NAME}*"):
        if not path.name.endswith("lock"):
            shutil.move(path, quarantine / path.name)
    shutil.move(copy, data / NAME)
    new = Database(data / NAME)
    new.open()
    new.write_now(lambda connection: upsert_documents(connection, "p", [document("new", "of the new file")]))
    with pytest.raises(DatabaseReplacedError):
        stale.write_now(lambda connection: upsert_documents(connection, "p", [document("stale", "text")]))
    stale.close()
    kept = tmp_path / "kept"  # the new file as a kill leaves it now
    shutil.copytree(data, kept)
    assert contents(kept / NAME)["p", "new"] == "of the new file"
    assert ("p", "stale") not in contents(kept / NAME)
    new.close()
