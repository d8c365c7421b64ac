"""Concurrent writes on a real database: what is shared, what is not, and what a deadline leaves behind."""

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from knowledgebeast_service.errors import DatabaseBusyError, DatabaseError, DatabaseReplacedError
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.documents import ensure_project
from knowledgebeast_service.storage.locks import PLACES, WriteLock

HOLDER = """
import sys
from pathlib import Path
from knowledgebeast_service.storage.locks import WriteLock
lock = WriteLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


def names(database: Database) -> set[str]:
    return database.read_now(lambda connection: {row[0] for row in connection.rows("SELECT name FROM projects")})


@contextmanager
def held(database: Database) -> Generator[None]:
    """The write lock is held as if by another process."""
    lock = WriteLock(database.path)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()
        lock.close()


def make(name: str) -> Callable[[Connection], object]:
    return lambda connection: ensure_project(connection, name)


async def test_writes_that_wait_together_are_committed_together(database: Database) -> None:
    other = Connection(database.path)
    with held(database):
        writes = [asyncio.create_task(database.write(make(f"p{number}"))) for number in range(50)]
        await asyncio.sleep(0)
    before = other.number("PRAGMA data_version")
    commits = 0
    while not all(write.done() for write in writes):
        await asyncio.sleep(0)
        after = other.number("PRAGMA data_version")
        commits, before = commits + (after != before), after
    await asyncio.gather(*writes)
    other.close()
    assert len(names(database)) == 50
    assert commits <= 10  # the threads of a busy machine come one by one


async def test_one_that_fails_takes_no_other_with_it(database: Database) -> None:
    def fail(connection: Connection) -> None:
        ensure_project(connection, "half")
        raise RuntimeError("mine alone")

    with held(database):
        writes = [asyncio.create_task(database.write(one)) for one in (make("before"), fail, make("after"))]
        await asyncio.sleep(0)
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [tuple, RuntimeError, tuple]
    assert names(database) == {"before", "after"}


async def test_a_write_past_its_deadline_never_happens(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db", deadline_seconds=0.05)
    database.open()
    with held(database):
        with pytest.raises(DatabaseBusyError, match="try again"):
            await database.write(make("late"))
        with pytest.raises(DatabaseBusyError):
            database.write_now(make("late too"))
    await database.write(make("next"))
    assert names(database) == {"next"}
    database.close()


async def test_a_caller_that_goes_away_while_waiting_withdraws_its_write(database: Database) -> None:
    with held(database):
        write = asyncio.create_task(database.write(make("abandoned")))
        await asyncio.sleep(0.01)
        write.cancel()
        with pytest.raises(asyncio.CancelledError):
            await write
    await database.write(make("kept"))
    assert names(database) == {"kept"}


async def test_when_sqlite_rolls_everything_back_nobody_is_told_otherwise(database: Database) -> None:
    """A full disk in one operation undoes the operations before it in the same transaction."""

    def full(connection: Connection) -> None:
        connection.execute("ROLLBACK")  # what SQLite does by itself on SQLITE_FULL and SQLITE_IOERR
        raise apsw.FullError("disk is full")

    with held(database):
        writes = [asyncio.create_task(database.write(one)) for one in (make("before"), full)]
        await asyncio.sleep(0)
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    before, second = (getattr(outcome, "kind", None) for outcome in outcomes)
    assert second == "full"
    # Where other work kept the thread from its second operation for long, the first had a transaction of its own.
    told: set[str] = set() if before == "full" else {"before"}
    assert names(database) == told
    await database.write(make("after"))
    assert names(database) == {*told, "after"}


async def test_a_replaced_file_fails_every_write_of_the_group(database: Database) -> None:
    def rename(connection: Connection) -> None:
        database.path.rename(database.path.with_suffix(".old"))

    with held(database):
        writes = [asyncio.create_task(database.write(one)) for one in (make("p"), rename, make("q"))]
        await asyncio.sleep(0)
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [DatabaseReplacedError] * 3


def test_whoever_waits_for_the_write_lock_comes_before_whoever_had_it_last(tmp_path: Path) -> None:
    greedy, patient = WriteLock(tmp_path / "x.db"), WriteLock(tmp_path / "x.db")
    order: list[str] = []
    waiting = threading.Event()

    def wait() -> None:
        waiting.set()
        patient.acquire()
        order.append("patient")
        patient.release()

    greedy.acquire()
    with ThreadPoolExecutor(1) as threads:
        done = threads.submit(wait)
        waiting.wait()
        await_locked(greedy)  # the other stands at the head of the queue
        greedy.release()
        greedy.acquire()
        order.append("greedy")
        greedy.release()
        done.result()
    assert order == ["patient", "greedy"]
    greedy.close()
    patient.close()


def test_writers_come_in_the_order_in_which_they_queued_up(tmp_path: Path) -> None:
    """Seven wait; the first of them has waited so long that by a doubling pause it would look least often."""
    holder, *waiting = (WriteLock(tmp_path / "x.db") for _ in range(PLACES))
    order: list[int] = []

    def write(number: int) -> None:
        waiting[number].acquire()
        order.append(number)
        threading.Event().wait(0.003)
        waiting[number].release()

    holder.acquire()
    with ThreadPoolExecutor(len(waiting)) as threads:
        jobs: list[Future[None]] = []
        for number in range(len(waiting)):
            jobs.append(threads.submit(write, number))
            await_locked(holder, number)  # it stands behind those before it
        holder.release()
        for job in jobs:
            job.result()
    assert order == list(range(len(waiting)))
    for lock in (holder, *waiting):
        lock.close()


@pytest.mark.parametrize("place", [0, 1, PLACES - 1])
async def test_a_stopped_process_anywhere_in_the_queue_is_passed_by(database: Database, place: int) -> None:
    stopped = WriteLock(database.path)
    fcntl.flock(stopped._places[place], fcntl.LOCK_EX)  # pyright: ignore[reportPrivateUsage]
    await database.write(make("p"))
    assert names(database) == {"p"}
    stopped.close()


def await_locked(lock: WriteLock, place: int = 0) -> None:
    """Until somebody stands at this place; after a while the test goes on, and its order will be wrong."""
    deadline = time.monotonic() + 10
    while not is_locked(lock, place) and time.monotonic() < deadline:
        threading.Event().wait(0.001)


def is_locked(lock: WriteLock, place: int = 0) -> bool:
    turn = lock._places[place]  # pyright: ignore[reportPrivateUsage]
    try:
        fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(turn, fcntl.LOCK_UN)
    return False


def test_a_killed_holder_of_the_lock_holds_it_no_more(database: Database) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(database.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with ThreadPoolExecutor(1) as threads:
        write = threads.submit(database.write_now, make("p"))
        with pytest.raises(TimeoutError):
            write.result(0.05)
        os.kill(holder.pid, signal.SIGKILL)
        write.result()
    holder.communicate()
    assert names(database) == {"p"}


def test_closing_does_not_wait_for_ever_and_ends_writing(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db", deadline_seconds=0.05)
    database.open()
    with held(database):
        with pytest.raises(DatabaseBusyError):
            database.write_now(make("p"))
        database.close()
        with pytest.raises(DatabaseError, match="closed"):
            database.write_now(make("q"))
    database.close()
