"""How far the numbers of changes may have come, in a small file beside the database, for when the database cannot say.

Whoever holds the write lock writes it before the commit and never lowers it, so no number above it was ever committed;
some below it may have been rolled back. `last` goes to the page cache only: it survives every process, not a power cut,
and counts while the kernel that has it runs. `reserved` is ahead of it, synced before a number above it is committed.
"""

import os
import secrets
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.durable import FILE_MODE
from knowledgebeast_service.storage.outbox import database_id, head

SUFFIX = ".head"
STEP = 256  # changes for which one sync is paid, and by which a loss is overstated after a power cut
SIZE = 512  # one sector: written whole or not at all, and whatever was there before is written over
BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Mark:
    """`kernel` is the boot and the device under which `last` was written."""

    database_id: str
    last: int
    reserved: int
    kernel: str


class HeadMark:
    """The mark of an open database; each call by the holder of the write lock."""

    def __init__(self, database: Path, connection: Connection, sync: Callable[[int], None] = os.fdatasync) -> None:
        self._connection = connection
        self._sync = sync
        self._database_id = database_id(connection)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._file = os.open(mark_path(database), flags, FILE_MODE)
        self._kernel = _kernel(self._file)

    def write(self) -> None:
        """Cover every number that the connection has given, those of the open transaction among them.

        Raises:
            OSError: it may cover less; nothing must be committed.
        """
        last, reserved = head(self._connection), 0
        before = _decoded(os.pread(self._file, SIZE, 0))
        if before is not None and before.database_id == self._database_id:
            reserved = before.reserved
            last = max(last, before.last) if before.kernel == self._kernel else last
        is_ahead = last <= reserved
        self._put(Mark(self._database_id, last, reserved if is_ahead else last + STEP, self._kernel))
        if not is_ahead:
            self._sync(self._file)

    def settle(self) -> None:
        """Nothing more is committed by this process: let what is synced say no more than what was given.

        Asks the file alone, for the database may be damaged.
        """
        mark = _decoded(os.pread(self._file, SIZE, 0))
        if mark is not None and mark.database_id == self._database_id and mark.kernel == self._kernel:
            self._put(replace(mark, reserved=mark.last))
            self._sync(self._file)

    def close(self) -> None:
        os.close(self._file)

    def _put(self, mark: Mark) -> None:
        content = _encoded(mark)
        if os.pwrite(self._file, content, 0) != len(content):
            raise OSError(f"the mark of change {mark.last} was not written whole")


def mark_path(database: Path) -> Path:
    return database.with_name(f"{database.name}{SUFFIX}")


def highest_given(database: Path, database_id: str) -> int | None:
    """A number that no committed change of this database is above; None where nothing says one."""
    try:
        file = os.open(mark_path(database), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        mark = _decoded(os.pread(file, SIZE, 0))
        if mark is None or mark.database_id != database_id:
            return None
        return mark.last if mark.kernel == _kernel(file) else mark.reserved
    except OSError:
        return None
    finally:
        os.close(file)


def _encoded(mark: Mark) -> bytes:
    body = orjson.dumps(mark)
    return (b"%08x %s\n" % (zlib.crc32(body), body)).ljust(SIZE)


def _decoded(content: bytes) -> Mark | None:
    """None where it was never written, or not whole."""
    crc, _, body = content.partition(b"\n")[0].partition(b" ")
    if crc != b"%08x" % zlib.crc32(body):
        return None
    try:
        return Mark(**orjson.loads(body))
    except (ValueError, TypeError):
        return None


def _kernel(file: int) -> str:
    """The boot, and the device: a snapshot of the volume holds what was synced, and comes up as another device."""
    try:
        boot = BOOT.read_text(encoding="ascii").strip()
    except OSError:
        boot = secrets.token_hex(16)  # no boot is known to be this one
    return f"{boot} {os.fstat(file).st_dev}"
