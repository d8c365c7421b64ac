"""Connections to the one database file: a single writer, a few reader threads, and the checks around them."""

import asyncio
import errno
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import apsw

from knowledgebeast_service.errors import DatabaseBusyError, DatabaseError, DatabaseReplacedError, StartupError
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.damage import GOOD, Finding, another_volume, damage_before_opening, inode_of
from knowledgebeast_service.storage.filesystem import refuse_network_file_system
from knowledgebeast_service.storage.group_commit import GroupCommit
from knowledgebeast_service.storage.head_mark import HeadMark
from knowledgebeast_service.storage.locks import VolumeLock, WriteLock
from knowledgebeast_service.storage.migrations import IDENTITY_VERSION, migrate, schema_version
from knowledgebeast_service.storage.outbox import head
from knowledgebeast_service.storage.permissions import NOT_READABLE, not_permitted
from knowledgebeast_service.storage.volume import NAME as IDENTITY
from knowledgebeast_service.storage.volume import ensure_identity, record_database

log = logging.getLogger(__name__)

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
        self,
        path: Path,
        *,
        owner: str | None = None,
        deadline_seconds: float = 5.0,
        on_error: Callable[[str], None] = lambda _kind: None,
        on_write: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        """`owner` is whose the volume must be, where it says whose it is; None = anybody's.

        `confirm` may be set: awaited with the number of a write's last change before the write is acknowledged.
        """
        self.path = path
        self._owner = owner
        self._deadline_seconds = deadline_seconds
        self._on_error = on_error
        self._on_write = on_write
        self.is_open = False
        self.damage = GOOD
        self.schema_version = 0
        self.confirm: Callable[[int], Awaitable[None]] | None = None
        self._volume_lock = VolumeLock(path)
        self._connections: list[Connection] = []
        self._local = threading.local()

    def open(self, *, volume_lock_wait_seconds: float = VOLUME_LOCK_WAIT_SECONDS) -> None:
        """Lock, open and migrate. A damaged file is left alone: `damage` says why, and everything is refused. On the
        volume of another object not even a lock is made.

        Raises:
            StartupError: a network file system, an exclusive task, or a file that cannot be opened.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.damage = another_volume(self.path.parent, self._owner)
        if self.is_of_another:
            self._on_error("wrong-volume")
            return
        self._lock_volume(volume_lock_wait_seconds)
        write_lock: WriteLock | None = None
        try:
            write_lock = WriteLock(self.path)
            with write_lock.hold(VOLUME_LOCK_WAIT_SECONDS):
                self.damage = damage_before_opening(self.path, self._owner)
                if self.damage.is_good:
                    self._open(write_lock)
        except (apsw.CorruptError, apsw.NotADBError) as error:
            self.damage = Finding("pages", (f"{type(error).__name__}: {error}",))
        except (apsw.Error, OSError, DatabaseBusyError) as error:
            self._volume_lock.release()
            raise StartupError(f"the database {self.path} cannot be opened: {error}") from error
        if not self.damage.is_good:
            # Nothing is open, so nothing stands in the way of a restore.
            self._on_error(self._damage_kind)
            self._volume_lock.release()
            if write_lock is not None:
                write_lock.close()

    def _lock_volume(self, wait_seconds: float) -> None:
        try:
            if (sentence := not_permitted(self.path, to_write=True)) is not None:
                raise StartupError(f"{NOT_READABLE}: {sentence}")
            refuse_network_file_system(self.path.parent)
            self._volume_lock.acquire(exclusive=False, wait_seconds=wait_seconds)
        except OSError as error:
            raise StartupError(f"the folder of the database {self.path} cannot be used: {error}") from error

    def _open(self, write_lock: WriteLock) -> None:
        self._writing = Connection(self.path)
        is_new = schema_version(self._writing) < IDENTITY_VERSION  # or from before volumes had an identity
        if is_new:
            ensure_identity(self.path.parent, self._owner)
        migrate(self._writing)
        self._record_volume(is_new=is_new)
        self._mark = HeadMark(self.path, self._writing)
        try:
            self._mark.write()
        except OSError as error:  # a full disk: it can be read from, and what is written tries again
            log.warning("the mark of the highest number cannot be written yet: %s", error)
        self._write_lock = write_lock
        self._connections.append(self._writing)
        self.schema_version = schema_version(self._writing)
        self._opened = inode_of(self.path)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="sqlite-reader")
        self._writer = GroupCommit(
            self._writing, self._write_lock, self.require_same_file, self._mark_head, self._deadline_seconds
        )
        self.is_open = True

    def _record_volume(self, *, is_new: bool) -> None:
        try:
            if not (self.path.parent / IDENTITY).exists():
                ensure_identity(self.path.parent, self._owner)
            record_database(self.path.parent, self._owner)
        except OSError as error:
            if is_new:
                raise
            log.warning("whose volume this is cannot be written yet: %s", error)  # a full disk: it can be read from

    @property
    def is_of_another(self) -> bool:
        """Whether the volume is of another object; nothing must be written to it then."""
        return self.damage.damage == "wrong-volume"

    def close(self) -> None:
        """Wait for running work, close every connection, give up the volume lock."""
        if not self.is_open:
            return
        if not self._writer.close():
            return  # its thread still waits for the lock with the connection in hand: the process's end frees both
        self._readers.shutdown()
        for connection in self._connections:
            connection.close()  # of a file that was moved away SQLite leaves the -wal alone, which has its old name
        self._settle_mark()
        self._mark.close()
        self._write_lock.close()
        self._volume_lock.release()

    def note_damage(self, finding: Finding) -> None:
        """From now on nothing is written: no write may be acknowledged into a file that is going to be replaced."""
        self._on_error("corrupt")
        if self.damage.is_good:
            log.error("the database is damaged, nothing is written any more: %s", finding)
            self.damage = finding

    async def write(self, operation: Callable[[Connection], T]) -> T:
        """Run `operation` durably, alone among all processes; concurrent ones share a transaction.

        Raises:
            DatabaseError: nothing was committed, or (DatabaseReplacedError) not where anyone will look.
        """
        with self._translated(), self._timed():
            self._require_sound()
            if self.confirm is None:
                return await self._writer.run(operation)
            result, number = await self._writer.run(lambda connection: _with_number(connection, operation))
            if number:
                await self.confirm(number)
            return result

    def write_now(self, operation: Callable[[Connection], T]) -> T:
        """`write`, for a thread that may block."""
        with self._translated(), self._timed():
            self._require_sound()
            return self._writer.run_now(operation)

    async def read(self, operation: Callable[[Connection], T]) -> T:
        """Run `operation` over one snapshot.

        Raises:
            DatabaseError: SQLite refused.
        """
        with self._translated():
            self._require_open()
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
        if self.is_open and inode_of(self.path) != self._opened:
            raise DatabaseReplacedError(
                f"{self.path} was replaced or removed while it was open: this process must be restarted"
            )

    def fresh(self) -> Connection:
        """A connection that has seen nothing yet, for the caller to close: it reads what is on disk now.

        Raises:
            DatabaseError: nothing is open.
        """
        self._require_open()
        return Connection(self.path, read_only=True)

    def _settle_mark(self) -> None:
        try:
            with self._write_lock.hold(self._deadline_seconds):
                self._mark.settle()
        except (OSError, DatabaseBusyError) as error:
            log.warning("the mark of the highest number stays ahead of it: %s", error)

    def _mark_head(self) -> None:
        try:
            self._mark.write()
        except OSError as error:
            kind = "full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "io"
            raise DatabaseError(f"nothing was written, because its number could not be: {error}", kind) from error

    def _require_open(self) -> None:
        if not self.is_open:
            raise DatabaseError(f"the database cannot be used: {self.damage}", self._damage_kind)

    def _require_sound(self) -> None:
        if not self.damage.is_good:
            why = "the volume is another's" if self.is_of_another else "the database is damaged"
            raise DatabaseError(f"nothing is written, because {why}: {self.damage}", self._damage_kind)

    @property
    def _damage_kind(self) -> str:
        return "wrong-volume" if self.is_of_another else "corrupt"

    def _reader(self) -> Connection:
        self._require_open()
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            # A lost file must not come back as an empty one, in place of which nobody would see the loss.
            connection = Connection(self.path, must_exist=True)
            connection.execute("PRAGMA query_only = ON")
            self._local.connection = connection
            self._connections.append(connection)
        return connection

    @contextmanager
    def _timed(self) -> Generator[None]:
        started = time.perf_counter()
        yield
        self._on_write(time.perf_counter() - started)

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except apsw.Error as error:
            kind = next((kind for type_, kind in ERROR_KINDS if isinstance(error, type_)), "other")
            if kind == "corrupt":
                self.note_damage(Finding("pages", (f"{type(error).__name__}: {error}",)))
            else:
                self._on_error(kind)
            raise DatabaseError(f"the database refused: {error}", kind) from error
        except DatabaseError as error:
            self._on_error(error.kind)
            raise


def _with_number(connection: Connection, operation: Callable[[Connection], T]) -> tuple[T, int]:
    """What the operation returns, and the number of its last change to documents and projects; 0 = it made none."""
    before = head(connection)
    result = operation(connection)
    after = head(connection)
    return result, after if after > before else 0
