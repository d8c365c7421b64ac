import asyncio
import threading
from pathlib import Path

import pytest

from knowledgebeast_service.errors import DatabaseBusyError, DatabaseError, DatabaseReplacedError, StartupError
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.documents import ensure_project, find_project
from knowledgebeast_service.storage.locks import VolumeLock, WriteLock
from knowledgebeast_service.storage.migrations import MIGRATIONS, NEWEST_VERSION, Migration, migrate, schema_version


async def test_what_is_written_is_read_by_others(database: Database) -> None:
    await database.write(lambda connection: ensure_project(connection, "p"))
    assert await database.read(lambda connection: find_project(connection, "p")) is not None


async def test_a_failing_operation_leaves_nothing_behind(database: Database) -> None:
    def fail(connection: Connection) -> None:
        ensure_project(connection, "p")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await database.write(fail)
    assert await database.read(lambda connection: find_project(connection, "p")) is None


async def test_settings_of_the_file_are_as_documented(database: Database) -> None:
    def pragmas(connection: Connection) -> tuple[object, ...]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return tuple(row[0] for name in names if (row := connection.row(f"PRAGMA {name}")))

    assert await database.write(pragmas) == ("wal", 2, 1)


async def test_a_file_renamed_away_is_noticed_before_the_answer(database: Database) -> None:
    """The commit goes to a file that nobody will ever open: it must not be acknowledged."""

    def rename_meanwhile(connection: Connection) -> None:
        ensure_project(connection, "p")
        database.path.rename(database.path.with_suffix(".old"))

    with pytest.raises(DatabaseReplacedError):
        await database.write(rename_meanwhile)
    with pytest.raises(DatabaseReplacedError):
        await database.write(lambda connection: ensure_project(connection, "q"))


async def test_an_error_of_sqlite_is_translated_and_counted(tmp_path: Path) -> None:
    kinds: list[str] = []
    database = Database(tmp_path / "x.db", on_error=kinds.append)
    database.open()
    with pytest.raises(DatabaseError, match="no such table"):
        await database.read(lambda connection: connection.row("SELECT * FROM absent"))
    with pytest.raises(DatabaseError):
        await database.read(lambda connection: connection.execute("DELETE FROM projects"))  # readers are read-only
    database.close()
    assert kinds == ["other", "other"]


async def test_a_writer_gives_up_at_its_deadline(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db", deadline_seconds=0.1)
    database.open()
    other = WriteLock(database.path)
    with other.hold(1), pytest.raises(DatabaseBusyError):
        await database.write(lambda connection: ensure_project(connection, "p"))
    await database.write(lambda connection: ensure_project(connection, "p"))
    other.close()
    database.close()


async def test_writers_of_two_processes_take_turns(tmp_path: Path) -> None:
    """Two objects with descriptors of their own lock each other out exactly as two processes do."""
    databases = [Database(tmp_path / "x.db") for _ in range(2)]
    for database in databases:
        database.open()
    names = [f"p{number}" for number in range(40)]

    async def write(name: str, place: int) -> None:
        await databases[place % 2].write(lambda connection: ensure_project(connection, name))

    await asyncio.gather(*(write(name, place) for place, name in enumerate(names)))
    count = await databases[0].read(lambda connection: connection.number("SELECT count(*) FROM projects"))
    assert count == len(names)
    for database in databases:
        database.close()


def test_an_exclusive_task_keeps_servers_out_and_waits_for_them(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    serving = Database(path)
    serving.open()
    exclusive = VolumeLock(path)
    with pytest.raises(StartupError, match="other processes have the database open"):
        exclusive.acquire(exclusive=True, wait_seconds=0)
    serving.close()
    exclusive.acquire(exclusive=True, wait_seconds=0)
    with pytest.raises(StartupError, match="exclusive maintenance task"):
        Database(path).open(volume_lock_wait_seconds=0)
    exclusive.release()
    again = Database(path)
    again.open(volume_lock_wait_seconds=0)
    again.close()


def test_a_wait_for_the_volume_lock_ends_when_it_is_free(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    holder = VolumeLock(path)
    holder.acquire(exclusive=True, wait_seconds=0)
    timer = threading.Timer(0.2, holder.release)
    timer.start()
    database = Database(path)
    database.open(volume_lock_wait_seconds=10)
    database.close()
    timer.join()


def test_migrations_apply_once_and_in_order(tmp_path: Path) -> None:
    connection = Connection(tmp_path / "x.db")
    assert migrate(connection) == [step.version for step in MIGRATIONS]
    assert migrate(connection) == []
    added = Migration(99, "a column", "ALTER TABLE documents ADD COLUMN language TEXT NOT NULL DEFAULT ''")
    assert migrate(connection, (*MIGRATIONS, added)) == [99]
    assert schema_version(connection) == 99
    connection.close()


def test_the_release_before_still_reads_and_writes_a_newer_file(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    connection = Connection(path)
    added = Migration(99, "a column", "ALTER TABLE documents ADD COLUMN language TEXT NOT NULL DEFAULT ''")
    migrate(connection, (*MIGRATIONS, added))
    connection.close()
    database = Database(path)
    database.open()
    database.write_now(lambda opened: ensure_project(opened, "p"))
    assert database.schema_version == 99
    database.close()


def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    connection = Connection(tmp_path / "x.db")
    migrate(connection)
    steps = (*MIGRATIONS, Migration(98, "good", "CREATE TABLE extra (a) "), Migration(99, "bad", "CREATE NONSENSE"))
    with pytest.raises(Exception, match="syntax error"):
        migrate(connection, steps)
    assert schema_version(connection) == NEWEST_VERSION
    assert connection.row("SELECT 1 FROM sqlite_schema WHERE name = 'extra'") is None
    connection.close()
