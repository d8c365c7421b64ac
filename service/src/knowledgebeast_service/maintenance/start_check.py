"""After a start the whole database is read once, at low priority: pages that were damaged while nobody read them would
else be found by the next scheduled check, or by a query.

One replica does it for all that have started before: it holds a lock on a file beside the database, in which stands
when the last whole check began. Two checks of a volume are minutes apart, however often processes are started.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import random
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import apsw

from knowledgebeast_service.errors import DatabaseError
from knowledgebeast_service.maintenance.restore.classify import kind_of
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.damage import GOOD, Finding
from knowledgebeast_service.storage.database import Database

log = logging.getLogger(__name__)

# Caches, the keyword index and the model come first; and a hundred services do not begin at the same time.
DELAY_SECONDS = (15.0, 45.0)
APART_SECONDS = 600.0
RETRY_SECONDS = 10.0
NICENESS = 19
# It rests for as long as it works, so that half of a small CPU limit is left, and of the disk.
WORK_SECONDS = 0.02
STEPS = 5000  # of SQLite between two looks at the clock, a fraction of a millisecond; each look needs the GIL
MESSAGES = 100
SHOWN = 10


class StartCheck:
    """Runs until a whole check has ended that began after this process."""

    def __init__(
        self,
        database: Database,
        *,
        delay_seconds: tuple[float, float] = DELAY_SECONDS,
        apart_seconds: float = APART_SECONDS,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._database = database
        self._delay = delay_seconds
        self._apart = apart_seconds
        self._retry = retry_seconds
        self._started_at = time.time()
        self._stopped = threading.Event()

    async def run(self) -> None:
        """What is found goes to the database, which counts it and stops writing."""
        await asyncio.sleep(random.uniform(*self._delay))
        with ThreadPoolExecutor(1, thread_name_prefix="start-check", initializer=_step_back) as thread:
            while True:
                wait = await self._in(thread)
                if not wait:
                    return
                await asyncio.sleep(wait)

    async def _in(self, thread: ThreadPoolExecutor) -> float:
        turn = asyncio.get_running_loop().run_in_executor(thread, self._turn)
        try:
            return await asyncio.shield(turn)
        except asyncio.CancelledError:
            self._stopped.set()
            await turn  # its connection is closed before the others are: the last one tidies up
            raise

    def _turn(self) -> float:
        """Seconds until the next look; 0 when there is nothing left to do."""
        if not self._database.is_open or not self._database.damage.is_good:
            return self._retry  # whoever repairs it checks it, too
        try:
            with _alone(stamp_path(self._database.path)) as stamp:
                return self._retry if stamp is None else self._check_if_due(stamp)
        except (apsw.Error, DatabaseError, OSError) as error:
            log.warning("the database could not be checked after the start: %s", error)
            return self._retry

    def _check_if_due(self, stamp: int) -> float:
        now, last = time.time(), _read(stamp)
        if self._started_at <= last <= now:
            return 0.0
        if 0 <= now - last < self._apart:
            return last + self._apart - now
        if not self._check():
            return self._retry
        with contextlib.suppress(OSError):  # a full disk: the next start checks again
            os.pwrite(stamp, f"{now:.3f}\n".encode(), 0)
        return 0.0

    def _check(self) -> bool:
        """Whether all of it was read."""
        began = time.monotonic()
        connection = self._database.fresh()
        try:
            connection.at_intervals(STEPS, _Pace(self._stopped))
            finding = _look(connection)
        except apsw.InterruptError:
            return False
        except (apsw.CorruptError, apsw.NotADBError) as error:
            finding = Finding("pages", (f"{type(error).__name__}: {error}",))
        finally:
            connection.close()
        if not finding.is_good:
            self._database.note_damage(finding)
        log.info("the whole database was checked in %.1f s after the start: %s", time.monotonic() - began, finding)
        return True


class _Pace:
    """Asked by SQLite at intervals: rests, and says whether to end."""

    def __init__(self, stopped: threading.Event) -> None:
        self._stopped = stopped
        self._since = time.monotonic()

    def __call__(self) -> bool:
        worked = time.monotonic() - self._since
        if worked < WORK_SECONDS:
            return self._stopped.is_set()
        is_stopped = self._stopped.wait(worked)
        self._since = time.monotonic()
        return is_stopped


def stamp_path(database: Path) -> Path:
    """In it stands when the last whole check after a start began (Unix time)."""
    return database.with_name(f"{database.name}.checked")


def _read(stamp: int) -> float:
    try:
        return float(os.pread(stamp, 64, 0))
    except ValueError:
        return 0.0  # nobody has checked yet


def _look(connection: Connection) -> Finding:
    rows = connection.rows(f"PRAGMA integrity_check({MESSAGES})")
    lines = (line for row in rows for line in str(row[0]).splitlines())
    problems = [line for line in lines if line != "ok" and not line.startswith("***")]
    if not problems:
        return GOOD
    indexes = connection.rows("SELECT rootpage FROM sqlite_schema WHERE type = 'index'")
    return Finding(kind_of(problems, [int(row[0]) for row in indexes]), tuple(problems[:SHOWN]))


@contextmanager
def _alone(path: Path) -> Generator[int | None]:
    """The file, while nobody else has it; None when somebody has."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield descriptor
    finally:
        os.close(descriptor)


def _step_back() -> None:
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
