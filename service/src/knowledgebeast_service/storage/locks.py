"""File locks beside the database: who may have it open, and who may write.

flock(2), because its locks belong to the open file description: unlike SQLite's own POSIX locks they do not vanish
when some other part of the process closes the same file.
"""

import fcntl
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from knowledgebeast_service.errors import DatabaseBusyError, StartupError

FIRST_PAUSE_SECONDS = 0.0005
LONGEST_PAUSE_SECONDS = 0.01


def _acquire(descriptor: int, operation: int, wait_seconds: float) -> bool:
    """Try until the deadline; a blocking flock could not be given up."""
    deadline = time.monotonic() + wait_seconds
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        else:
            return True


class VolumeLock:
    """Held for as long as a process has the database open: shared to serve, exclusive to replace the file.

    A restore that takes it exclusively knows that nobody holds the old file, whose commits nobody would ever see.
    """

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(f"{database.name}.lock")
        self._descriptor: int | None = None

    def acquire(self, *, exclusive: bool, wait_seconds: float) -> None:
        """Take the lock.

        Raises:
            StartupError: others held it past the wait.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
        if not _acquire(descriptor, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH, wait_seconds):
            os.close(descriptor)
            others = "other processes have the database open" if exclusive else "an exclusive maintenance task runs"
            raise StartupError(
                f"{self._path} is locked: {others} (waited {wait_seconds:.0f} s). Try again when they have ended."
            )
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back; the file stays, for removing it would split it in two."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class WriteLock:
    """One writer at a time over all processes, with a deadline.

    SQLite's own busy handler sleeps for fixed times and is unfair under contention; eight writers stalled for seconds.
    """

    def __init__(self, database: Path) -> None:
        path = database.with_name(f"{database.name}.write-lock")
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)

    @contextmanager
    def hold(self, wait_seconds: float) -> Generator[None]:
        """Hold the lock for one transaction.

        Raises:
            DatabaseBusyError: another writer held it past the wait.
        """
        if not _acquire(self._descriptor, fcntl.LOCK_EX, wait_seconds):
            raise DatabaseBusyError(f"another writer held the database for over {wait_seconds:g} s: try again")
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self._descriptor)
