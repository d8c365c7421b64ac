"""The mark of the highest number: never below a committed one, whoever dies, and exact while its kernel runs."""

import os
import random
from collections.abc import Generator
from pathlib import Path

import pytest

from backup_world import prepared, put
from knowledgebeast_service.errors import DatabaseError
from knowledgebeast_service.storage import head_mark
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.head_mark import STEP, HeadMark, highest_given, mark_path
from knowledgebeast_service.storage.outbox import database_id, head


@pytest.fixture
def database(tmp_path: Path) -> Generator[Database]:
    opened = Database(tmp_path / "knowledgebeast.db")
    opened.open()
    yield opened
    opened.close()


def identity(database: Database) -> str:
    return database.read_now(database_id)


def given(database: Database) -> int | None:
    return highest_given(database.path, identity(database))


def write(database: Database, name: str) -> None:
    put(database, "p", [prepared(name, f"what {name} says")])


def test_it_is_the_number_of_the_last_change(database: Database) -> None:
    for name in "abc":
        write(database, name)
        assert given(database) == database.read_now(head)


def test_each_number_is_covered_before_it_is_committed(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int | None]] = []

    def write_and_look(mark: HeadMark) -> None:
        HeadMark.write(mark)
        others = database.fresh()
        seen.append((head(others), highest_given(database.path, database_id(others))))
        others.close()

    mark = database._mark  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(mark, "write", lambda: write_and_look(mark))
    write(database, "a")
    newest = database.read_now(head)
    assert seen == [(0, newest)], "others see nothing yet, and the mark has it"


def test_what_is_rolled_back_does_not_lower_it(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may have committed the same number meanwhile."""
    write(database, "a")
    before = database.read_now(head)
    mark = database._mark  # pyright: ignore[reportPrivateUsage]

    def write_and_fail() -> None:
        HeadMark.write(mark)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(mark, "write", write_and_fail)
    with pytest.raises(DatabaseError):
        write(database, "b")
    monkeypatch.undo()
    assert (database.read_now(head), given(database)) == (before, before + 1)
    other = Database(database.path)
    other.open()
    assert given(database) == before + 1
    write(other, "c")
    assert given(database) == database.read_now(head) == before + 1
    other.close()


def test_a_mark_that_cannot_be_written_lets_nothing_be_committed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(database, "a")
    before = database.read_now(head)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(DatabaseError) as refused:
        write(database, "b")
    assert refused.value.kind == "full"
    assert database.read_now(head) == before
    monkeypatch.undo()
    write(database, "b")
    assert given(database) == database.read_now(head) == before + 1


@pytest.mark.parametrize("seed", range(20))
def test_after_a_power_cut_it_is_not_below_any_committed_number(tmp_path: Path, seed: int) -> None:
    """Of the mark only what was synced is left, or anything written since; of the database every commit."""
    chosen = random.Random(seed)
    path = tmp_path / "knowledgebeast.db"
    Database(path).open()
    connections = [Connection(path) for _ in range(2)]
    on_disk: list[bytes] = []  # what a power cut may leave: the last synced content, and all that was written since

    def sync(_file: int) -> None:
        on_disk.clear()

    marks = [HeadMark(path, connection, sync) for connection in connections]
    another_boot = tmp_path / "boot_id"
    another_boot.write_text("another\n")
    for _ in range(60):
        writer = chosen.randrange(2)
        count = chosen.choice([1, 1, 2, 40, STEP, STEP + 3])
        with_rollback = chosen.random() < 0.3
        connections[writer].execute("BEGIN IMMEDIATE")
        for _ in range(count):
            connections[writer].execute(
                "INSERT INTO outbox (op, project_id, project, project_uid, at) VALUES ('create', 1, 'p', 'u', 0.0)"
            )
        marks[writer].write()
        on_disk.append(mark_path(path).read_bytes())
        connections[writer].execute("ROLLBACK" if with_rollback else "COMMIT")
        committed = head(connections[0])
        if chosen.random() < 0.2:  # one of them ends, and opens it again
            marks[writer].settle()
            on_disk.append(mark_path(path).read_bytes())
        left = tmp_path / "left.db"
        mark_path(left).write_bytes(chosen.choice(on_disk))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(head_mark, "BOOT", another_boot)
            after = highest_given(left, database_id(connections[0]))
        assert after is not None
        assert committed <= after <= committed + 3 * STEP


def test_after_an_orderly_end_it_is_exact_on_another_device_too(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A volume that is mounted again may come up as another device, and a damaged database says nothing."""
    write(database, "a")
    newest, own = database.read_now(head), identity(database)
    other_boot = tmp_path / "boot_id"
    other_boot.write_text("other\n")
    with monkeypatch.context() as patch:
        patch.setattr(head_mark, "BOOT", other_boot)
        assert highest_given(database.path, own) == newest + STEP, "reserved at the first change"

    def damaged(_connection: Connection) -> int:
        raise AssertionError("the database is read")

    monkeypatch.setattr(head_mark, "head", damaged)
    database.close()
    with monkeypatch.context() as patch:
        patch.setattr(head_mark, "BOOT", other_boot)
        assert highest_given(database.path, own) == newest
    monkeypatch.undo()
    database.open()


def test_a_full_disk_keeps_nobody_from_reading(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A release that knows of no mark yet may meet a full volume at its first start."""
    write(database, "a")
    database.close()
    mark_path(database.path).unlink()

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        database.open()
        assert database.read_now(head) > 0
        with pytest.raises(DatabaseError):
            write(database, "b")
    write(database, "b")
    assert given(database) == database.read_now(head)


@pytest.mark.parametrize("damage", [b"", b"\0" * 512, b"00000000 {}\n", b"no mark at all"])
def test_a_damaged_mark_says_nothing_and_is_made_anew(database: Database, damage: bytes) -> None:
    write(database, "a")
    mark_path(database.path).write_bytes(damage)
    assert given(database) is None
    write(database, "b")
    assert given(database) == database.read_now(head)


def test_one_changed_byte_is_noticed(database: Database) -> None:
    write(database, "a")
    content = bytearray(mark_path(database.path).read_bytes())
    content[content.index(b'"last":') + 7] ^= 1
    mark_path(database.path).write_bytes(content)
    assert given(database) is None


def test_a_mark_of_another_database_says_nothing(database: Database) -> None:
    write(database, "a")
    assert highest_given(database.path, "another") is None
    mark_path(database.path).unlink()
    assert given(database) is None


def test_a_new_identity_begins_its_own(database: Database) -> None:
    """As after a restore, which may go back to lower numbers."""
    write(database, "a")
    database.write_now(lambda connection: connection.execute("UPDATE identity SET database_id = 'new'"))
    database.close()
    again = Database(database.path)
    again.open()
    assert highest_given(database.path, "new") == again.read_now(head)
    again.close()
    database.open()
