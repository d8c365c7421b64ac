"""Many writes, one transaction, one fsync: the queue before the thread that writes.

While one group commits the next one gathers, so the busier the process, the larger its groups. Each operation has a
savepoint of its own, and nobody is answered before the common COMMIT.
"""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from typing import Any, TypeAlias, TypeVar, cast

import apsw

from knowledgebeast_service.errors import DatabaseBusyError
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.locks import WriteLock

log = logging.getLogger(__name__)

T = TypeVar("T")
Operation: TypeAlias = Callable[[Connection], Any]
Outcome: TypeAlias = "tuple[Future[Any], Any, BaseException | None]"

# A group takes no further operation after this: the writers of other processes wait for the lock meanwhile.
GROUP_SECONDS = 0.01


class GroupCommit:
    """Runs operations in the order in which they came, in a thread of its own.

    Deadlines are kept by those who wait: an operation that has not begun by then is withdrawn and will never run; one
    that has begun is waited for, because its commit can no longer be stopped.
    """

    def __init__(
        self,
        connection: Connection,
        lock: WriteLock,
        require_same_file: Callable[[], None],
        before_commit: Callable[[], None],
        deadline_seconds: float,
    ) -> None:
        self._connection = connection
        self._lock = lock
        self._require_same_file = require_same_file
        self._before_commit = before_commit
        self._deadline_seconds = deadline_seconds
        self._jobs: queue.SimpleQueue[tuple[Operation, Future[Any]] | None] = queue.SimpleQueue()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="sqlite-writer", daemon=True)
        self._thread.start()

    async def run(self, operation: Callable[[Connection], T]) -> T:
        """Commit `operation` and return what it returned; its own errors come back as they are.

        Raises:
            DatabaseBusyError: it did not begin within the deadline, and will not.
            apsw.Error, DatabaseReplacedError: nothing of it is stored, or not where anyone will look.
        """
        job = self._submit(operation)
        waiting = asyncio.wrap_future(job)
        try:
            await asyncio.wait((waiting,), timeout=self._deadline_seconds)
        except asyncio.CancelledError:
            waiting.cancel()  # withdraws the operation if it has not begun
            raise
        if job.cancel():
            raise self._overdue()
        return cast("T", await waiting)

    def run_now(self, operation: Callable[[Connection], T]) -> T:
        """`run`, for a thread that may block; never for the writer's own."""
        job = self._submit(operation)
        wait_for((job,), timeout=self._deadline_seconds)
        if job.cancel():
            raise self._overdue()
        return cast("T", job.result())

    def close(self) -> bool:
        """Finish what is queued; False when another process held the lock past the deadline.

        The connection and the lock are then still in use by the thread, which ends with the process.
        """
        self._is_closed = True
        self._jobs.put(None)
        self._thread.join(self._deadline_seconds)
        return not self._thread.is_alive()

    def _submit(self, operation: Operation) -> Future[Any]:
        if self._is_closed:
            raise DatabaseBusyError("the database is closed: the process is ending")
        job: Future[Any] = Future()
        self._jobs.put((operation, job))
        return job

    def _overdue(self) -> DatabaseBusyError:
        return DatabaseBusyError(f"another writer held the database for over {self._deadline_seconds:g} s: try again")

    def _run(self) -> None:
        while (first := self._jobs.get()) is not None:
            self._lock.acquire()
            try:
                outcomes = self._commit(first)
            finally:
                self._lock.release()
            for job, result, error in outcomes:
                if error is None:
                    job.set_result(result)
                else:
                    job.set_exception(error)

    def _commit(self, first: tuple[Operation, Future[Any]]) -> list[Outcome]:
        """One transaction; an error that is not of a single operation is everybody's."""
        outcomes: list[Outcome] = []
        try:
            self._require_same_file()
            self._connection.execute("BEGIN IMMEDIATE")
            self._run_operations(first, outcomes)
            self._before_commit()
            self._connection.execute("COMMIT")
            # After the commit and before anybody is told: a file renamed away meanwhile took the commit with it.
            self._require_same_file()
        except Exception as error:
            self._roll_back()
            if not outcomes and first[1].set_running_or_notify_cancel():
                outcomes.append((first[1], None, error))
            return [(job, None, own or error) for job, _, own in outcomes]
        return outcomes

    def _roll_back(self) -> None:
        if not self._connection.in_transaction:
            return
        try:
            self._connection.execute("ROLLBACK")
        except apsw.Error as error:
            log.error("a failed transaction could not be rolled back; the next one will say so, too: %s", error)

    def _run_operations(self, first: tuple[Operation, Future[Any]], outcomes: list[Outcome]) -> None:
        """The first operation and those that have come meanwhile; `outcomes` has every one that was begun."""
        end = time.monotonic() + GROUP_SECONDS
        job = first
        while True:
            operation, future = job
            if future.set_running_or_notify_cancel():
                outcomes.append((future, None, None))  # begun: an error of the group must reach it
                outcomes[-1] = (future, *self._run_one(operation))
            if time.monotonic() >= end:
                return
            try:
                following = self._jobs.get_nowait()
            except queue.Empty:
                return
            if following is None:
                self._jobs.put(None)  # the end, which is for `_run`
                return
            job = following

    def _run_one(self, operation: Operation) -> tuple[Any, BaseException | None]:
        self._connection.execute("SAVEPOINT operation")
        try:
            result = operation(self._connection)
        except BaseException as error:
            if not self._connection.in_transaction:
                raise  # SQLite has rolled the whole transaction back (disk full, I/O): nothing of the group is stored
            self._connection.execute("ROLLBACK TO operation; RELEASE operation")
            return None, error
        self._connection.execute("RELEASE operation")
        return result, None
