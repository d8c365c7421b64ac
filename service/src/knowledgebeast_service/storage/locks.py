"""File locks beside the database: who may have it open, and who may write.

flock(2), because its locks belong to the open file description: unlike SQLite's own POSIX locks they do not vanish
when some other part of the process closes the same file.
"""

import fcntl
import math
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from knowledgebeast_service.errors import DatabaseBusyError, StartupError

FIRST_PAUSE_SECONDS = 0.0005
LONGEST_PAUSE_SECONDS = 0.01
# In the queue of writers, where the next place is free every few milliseconds and a late step makes everybody late.
QUEUE_PAUSE_SECONDS = 0.002
TURN_SECONDS = 0.25
PLACES = 8


def _acquire(
    descriptor: int, operation: int, wait_seconds: float, longest_pause: float = LONGEST_PAUSE_SECONDS
) -> bool:
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
            pause = min(pause * 2, longest_pause)
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
    """One writer at a time over all processes, in the order in which they came.

    SQLite's own busy handler sleeps for fixed times, and the writer that has just finished takes the lock again before
    a sleeper looks; eight writers stalled for seconds. Even one common place to wait at is a lottery for all but the
    one who stands there. Here each place of a queue is a lock: whoever waits moves up to the next one when it is free
    and only then leaves its own, so nobody is overtaken. More than PLACES writers draw lots for the last place.
    """

    def __init__(self, database: Path) -> None:
        self._lock, *self._places = (
            os.open(database.with_name(f"{database.name}.write-{name}"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
            for name in ("lock", "turn", *(f"turn-{place}" for place in range(2, PLACES + 1)))
        )

    def acquire(self) -> None:
        """Wait for as long as it takes; a killed holder is no longer one.

        In any place may stand a stopped process (SIGSTOP, a frozen cgroup) that holds nothing but that: after
        TURN_SECONDS it is passed by.
        """
        place = self._move_up()
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        finally:
            _leave(place)

    def _move_up(self, wait_seconds: float = math.inf) -> int | None:
        """From the end of the queue to its head; the place reached, None where not even the last one was free."""
        end = time.monotonic() + wait_seconds
        mine: int | None = None
        for place in reversed(self._places):
            wait = min(TURN_SECONDS, end - time.monotonic())
            if _acquire(place, fcntl.LOCK_EX, wait, QUEUE_PAUSE_SECONDS):
                _leave(mine)
                mine = place
        return mine

    def release(self) -> None:
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    @contextmanager
    def hold(self, wait_seconds: float) -> Generator[None]:
        """Hold the lock for one transaction.

        Raises:
            DatabaseBusyError: other writers held it past the wait.
        """
        end = time.monotonic() + wait_seconds
        place = self._move_up(wait_seconds)
        try:
            if not _acquire(self._lock, fcntl.LOCK_EX, end - time.monotonic()):
                raise DatabaseBusyError(f"another writer held the database for over {wait_seconds:g} s: try again")
        finally:
            _leave(place)
        try:
            yield
        finally:
            self.release()

    def close(self) -> None:
        for descriptor in (self._lock, *self._places):
            os.close(descriptor)


def _leave(place: int | None) -> None:
    if place is not None:
        fcntl.flock(place, fcntl.LOCK_UN)
