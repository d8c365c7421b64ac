"""Due times of clients in a file on the data volume: one allowance for a client over all replicas.

The replicas of an object run on one node and share the volume, so a mapped file is memory that they share; nothing is
ever synced to disk, and after a crash of the machine a forgotten allowance harms nobody. The table has a fixed size and
is set-associative: a client's keyed hash names a set, in which the entry due longest ago gives way.

A set is read and written under a POSIX lock on its own bytes, which the kernel drops with the process that held it.
Nobody waits for it: whoever cannot have it at once counts alone this time. Whatever stands in an entry can only make a
client look new or due within a minute, so a torn or damaged one heals by itself.
"""

import contextlib
import fcntl
import hashlib
import math
import mmap
import os
import secrets
import struct
import time
from pathlib import Path
from typing import Final

from knowledgebeast_service.api.rate_limit import admit

MAGIC: Final = b"KBRATE01"
HEADER_BYTES: Final = 4096
SECRET_BYTES: Final = 32
SETS: Final = 2048
WAYS: Final = 8
ENTRY: Final = struct.Struct("<Qd")  # tag, due time on the machine's monotonic clock
SET_BYTES: Final = WAYS * ENTRY.size
FILE_BYTES: Final = HEADER_BYTES + SETS * SET_BYTES
LOCK_TRIES: Final = 50  # of about 1 µs; a holder that is not done by then is not running
OPEN_SECONDS: Final = 0.2


class TableError(Exception):
    """The table cannot be used now; count alone."""


class RateTable:
    """An open table. One for a process at most: closing a second would drop the first one's POSIX locks."""

    def __init__(self, path: Path) -> None:
        """Open the file, and make it when it is absent or is none of ours.

        Raises:
            TableError: it can be neither used nor made.
        """
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
        except OSError as error:
            raise TableError(f"{path}: {error.strerror}") from error
        try:
            self._secret = self._prepare()
            self._map = mmap.mmap(self._descriptor, FILE_BYTES)
        except (OSError, ValueError) as error:
            os.close(self._descriptor)
            raise TableError(f"{path}: {error}") from error

    def check(self, client: str, per_minute: int, now: float) -> int:
        """`RateLimiter.check`, over all processes.

        Raises:
            TableError: another process holds the set, or the file is no longer the one that was opened.
        """
        digest = hashlib.blake2b(client.encode("utf-8", "surrogatepass"), key=self._secret, digest_size=16).digest()
        tag = int.from_bytes(digest[:8], "little") or 1  # 0 marks an entry that was never used
        offset = HEADER_BYTES + int.from_bytes(digest[8:], "little") % SETS * SET_BYTES
        self._lock(offset)
        try:
            return self._update(offset, tag, per_minute, now)
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, SET_BYTES, offset)

    def is_current(self) -> bool:
        """Whether the path still names this file with this secret; if not, others count elsewhere."""
        try:
            here, there = os.fstat(self._descriptor), os.stat(self._path)  # noqa: PTH116
        except OSError:
            return False
        is_same = (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
        return is_same and here.st_size == FILE_BYTES and self._map[: len(MAGIC) + SECRET_BYTES] == MAGIC + self._secret

    def close(self) -> None:
        self._map.close()
        os.close(self._descriptor)

    def _update(self, offset: int, tag: int, per_minute: int, now: float) -> int:
        # A page beyond the end of a file that somebody has cut would kill the process with SIGBUS.
        if os.fstat(self._descriptor).st_size != FILE_BYTES:
            raise TableError(f"{self._path} was cut to another size")
        entries = [ENTRY.unpack_from(self._map, offset + way * ENTRY.size) for way in range(WAYS)]
        way = next((way for way, (known, _) in enumerate(entries) if known == tag), None)
        if way is None:
            way = min(range(WAYS), key=lambda one: _order(entries[one][1], now))
            due = now
        else:
            due = entries[way][1]
        wait, due = admit(now if math.isnan(due) else due, per_minute, now)
        if wait == 0:
            ENTRY.pack_into(self._map, offset + way * ENTRY.size, tag, due)
        return wait

    def _lock(self, offset: int) -> None:
        for _ in range(LOCK_TRIES):
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, SET_BYTES, offset)
            except OSError:
                continue
            return
        raise TableError(f"another process holds a part of {self._path}")

    def _prepare(self) -> bytes:
        """The secret of the table, which is made anew where the file is not a whole table."""
        deadline = time.monotonic() + OPEN_SECONDS
        while True:
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, HEADER_BYTES, 0)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        with contextlib.ExitStack() as done:
            done.callback(fcntl.lockf, self._descriptor, fcntl.LOCK_UN, HEADER_BYTES, 0)
            header = os.pread(self._descriptor, len(MAGIC) + SECRET_BYTES, 0)
            if header[: len(MAGIC)] == MAGIC and os.fstat(self._descriptor).st_size == FILE_BYTES:
                return header[len(MAGIC) :]
            return self._make()

    def _make(self) -> bytes:
        secret = secrets.token_bytes(SECRET_BYTES)
        # Written out in full: a mapped hole that finds the disk full later would kill the process with SIGBUS.
        content = (MAGIC + secret).ljust(FILE_BYTES, b"\0")
        if os.pwrite(self._descriptor, content, 0) != FILE_BYTES:
            raise OSError("the volume is full")
        os.ftruncate(self._descriptor, FILE_BYTES)
        return secret


def _order(due: float, now: float) -> float:
    """Entries by when they may go: never used or damaged ones first."""
    return due if now - 1e9 < due < now + 1e9 else -1e9
