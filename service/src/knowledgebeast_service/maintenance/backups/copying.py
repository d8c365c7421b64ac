"""The copy of a database that others write to, within a bound on what that costs them.

`VACUUM INTO` reads one snapshot, so writers go on; but SQLite's log cannot be started anew meanwhile and grows with
every commit. A watch ends the copying before the log takes the volume's last room. Copying page by page in steps would
hold no snapshot, and begins again whenever somebody writes: beside a steady writer it never ends.
"""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import apsw

from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.durable import sync_file, sync_folder
from knowledgebeast_service.storage.filesystem import free_bytes

MIB = 1024 * 1024
LOG_ALLOWANCE_BYTES = 256 * MIB  # for the smallest database
FREE_SHARE = 0.5  # of the data volume's free space, which the log may take
LOOK_SECONDS = 0.05


class LogTooLongError(Exception):
    """The copying was ended because SQLite's log grew past the bound."""


@dataclass
class Log:
    """SQLite's log during the copying, in bytes."""

    before: int
    limit: int
    peak: int = 0


def copy_database(source: Path, target: Path) -> Log:
    """A copy of one instant, on disk when this returns.

    Raises:
        LogTooLongError: see above; `target` is of no use.
        apsw.Error: SQLite could not read the source or write the target.
    """
    wal = source.with_name(f"{source.name}-wal")
    log = Log(_size(wal), log_limit(source.stat().st_size, free_bytes(source.parent)))
    log.peak = log.before
    connection = Connection(source, read_only=True)
    try:
        with _watched(connection, wal, log):
            _vacuum_into(connection, target)
    except apsw.InterruptError as error:
        raise LogTooLongError(
            f"SQLite's log grew from {log.before:,} to {log.peak:,} bytes while the database was copied; the limit is "
            f"{log.limit:,}. Nothing was kept of it; try again when fewer documents are written."
        ) from error
    finally:
        connection.close()
    sync_file(target)
    sync_folder(target.parent)
    return log


def log_limit(database_bytes: int, free_bytes: int) -> int:
    """Bytes that the log may have: as many as the database, and never more than half of the room that is left."""
    return int(min(max(LOG_ALLOWANCE_BYTES, database_bytes), FREE_SHARE * free_bytes))


def _vacuum_into(connection: Connection, target: Path) -> None:
    connection.execute("VACUUM INTO ?", (str(target),))


@contextmanager
def _watched(connection: Connection, wal: Path, log: Log) -> Generator[None]:
    is_done = threading.Event()

    def watch() -> None:
        while not is_done.wait(LOOK_SECONDS):
            log.peak = max(log.peak, _size(wal))
            if log.peak > max(log.limit, log.before):
                connection.interrupt()

    watching = threading.Thread(target=watch, name="log-watch")
    watching.start()
    try:
        yield
    finally:
        is_done.set()
        watching.join()
        log.peak = max(log.peak, _size(wal))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
