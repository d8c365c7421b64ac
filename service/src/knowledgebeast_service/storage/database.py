"""Connections to the one database file: a single writer thread, a few reader threads, and the checks around them."""

import asyncio
import os
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import apsw

from knowledgebeast_service.errors import DatabaseBusyError, DatabaseError, DatabaseReplacedError, StartupError
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.filesystem import refuse_network_file_system
from knowledgebeast_service.storage.locks import VolumeLock, WriteLock
from knowledgebeast_service.storage.migrations import migrate, schema_version

T = TypeVar("T")

READERS = 4
VOLUME_LOCK_WAIT_SECONDS = 30.0
ERROR_KINDS: tuple[tuple[type[apsw.Error], str], ...] = (
    (apsw.BusyError, "busy"),
    (apsw.FullError, "full"),
    (apsw.CorruptError, "corrupt"),
    (apsw.NotADBError, "corrupt"),
    (apsw.IOError, "io"),
    (apsw.CantOpenError, "io"),
)


class Database:
    """The open database. `read` and `write` run a function of a connection in a thread, inside one transaction."""

    def __init__(
        self, path: Path, *, deadline_seconds: float = 5.0, on_error: Callable[[str], None] = lambda _kind: None
    ) -> None:
        self.path = path
        self._deadline_seconds = deadline_seconds
        self._on_error = on_error
        self._volume_lock = VolumeLock(path)
        self._connections: list[Connection] = []
        self._local = threading.local()

    def open(self, *, volume_lock_wait_seconds: float = VOLUME_LOCK_WAIT_SECONDS) -> None:
        """Lock, open and migrate.

        Raises:
            StartupError: a network file system, an exclusive task, or a file that SQLite refuses.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        refuse_network_file_system(self.path.parent)
        self._volume_lock.acquire(exclusive=False, wait_seconds=volume_lock_wait_seconds)
        self._write_lock = WriteLock(self.path)
        try:
            with self._write_lock.hold(VOLUME_LOCK_WAIT_SECONDS):
                self._writing = Connection(self.path)
                migrate(self._writing)
        except (apsw.Error, DatabaseBusyError) as error:
            self._volume_lock.release()
            raise StartupError(f"the database {self.path} cannot be opened: {error}") from error
        self._connections.append(self._writing)
        self.schema_version = schema_version(self._writing)
        self._opened = self._identity()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="sqlite-writer")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="sqlite-reader")

    def close(self) -> None:
        """Wait for running work, close every connection, give up the volume lock."""
        self._writer.shutdown()
        self._readers.shutdown()
        for connection in self._connections:
            connection.close()
        self._write_lock.close()
        self._volume_lock.release()

    async def write(self, operation: Callable[[Connection], T]) -> T:
        """Run `operation` in one durable transaction, alone among all processes.

        Raises:
            DatabaseError: nothing was committed, or (DatabaseReplacedError) not where anyone will look.
        """
        return await asyncio.get_running_loop().run_in_executor(self._writer, self.write_now, operation)

    def write_now(self, operation: Callable[[Connection], T]) -> T:
        """`write`, in the calling thread."""
        with self._translated():
            self.require_same_file()
            with self._write_lock.hold(self._deadline_seconds), self._writing.transaction():
                result = operation(self._writing)
            # After the commit and before anybody is told: a file renamed away meanwhile took the commit with it.
            self.require_same_file()
            return result

    async def read(self, operation: Callable[[Connection], T]) -> T:
        """Run `operation` over one snapshot.

        Raises:
            DatabaseError: SQLite refused.
        """
        return await asyncio.get_running_loop().run_in_executor(self._readers, self.read_now, operation)

    def read_now(self, operation: Callable[[Connection], T]) -> T:
        """`read`, in the calling thread, which gets a connection of its own."""
        with self._translated():
            connection = self._reader()
            with connection.transaction():
                return operation(connection)

    def data_version(self) -> int:
        """A number that changes when any other connection has committed (PRAGMA data_version), for this thread."""
        with self._translated():
            return self._reader().number("PRAGMA data_version")

    def require_same_file(self) -> None:
        """Raise DatabaseReplacedError when the path no longer names the file that is open."""
        if self._identity() != self._opened:
            raise DatabaseReplacedError(
                f"{self.path} was replaced or removed while it was open: this process must be restarted"
            )

    def _identity(self) -> tuple[int, int] | None:
        try:
            # stat, never open: closing a second descriptor would drop SQLite's POSIX locks on the file.
            status = os.stat(self.path)  # noqa: PTH116
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _reader(self) -> Connection:
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = Connection(self.path)
            connection.execute("PRAGMA query_only = ON")
            self._local.connection = connection
            self._connections.append(connection)
        return connection

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except apsw.Error as error:
            kind = next((kind for type_, kind in ERROR_KINDS if isinstance(error, type_)), "other")
            self._on_error(kind)
            raise DatabaseError(f"the database refused: {error}", kind) from error
        except DatabaseError as error:
            self._on_error(error.kind)
            raise
