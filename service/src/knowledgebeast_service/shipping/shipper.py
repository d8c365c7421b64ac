"""The task that ships: one of the replicas does, the others stand by and see how far it is.

It follows the outbox at a distance of at most BACKUP_SHIP_SECONDS. Whatever happens to the backup volume, documents
are taken in all the same: what could not be shipped stays in the outbox, and the lag says so.
"""

import asyncio
import contextlib
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from knowledgebeast_service.errors import DatabaseError, ShippingError
from knowledgebeast_service.shipping.content import next_changes
from knowledgebeast_service.shipping.segments import changes_folder
from knowledgebeast_service.shipping.writer import SegmentWriter, read_position
from knowledgebeast_service.storage import outbox
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.database import Database

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
DISCARD_SECONDS = 10.0
POLL_SECONDS = 0.005  # of a writer that waits for what it wrote
OVERDUE_SECONDS = 30.0


@dataclass(frozen=True)
class ShippingState:
    """`lag_seconds` is the age of the oldest change that is not on the backup volume."""

    is_shipper: bool
    shipped_seq: int
    lag_seconds: float
    error: str | None

    @property
    def is_up(self) -> bool:
        return self.error is None and self.lag_seconds < OVERDUE_SECONDS


class Shipper:
    """`seconds` = longest distance behind the database; 0 follows each commit at once."""

    def __init__(self, database: Database, backup_dir: Path, seconds: float) -> None:
        self._database = database
        self._backup_dir = backup_dir
        self._pause = seconds / 2  # and the rest of it for reading, writing and syncing
        self._writer: SegmentWriter | None = None
        self._folder: Path | None = None
        self._error: str | None = None
        self._discarded_at = time.monotonic()
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="shipper")
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Ship until cancelled."""
        while True:
            error = await asyncio.get_running_loop().run_in_executor(self._threads, self._step)
            if error is not None and error != self._error:
                log.error("changes are not shipped to %s: %s", self._backup_dir, error)
            elif error is None and self._error is not None:
                log.info("changes are shipped to %s again", self._backup_dir)
            self._error = error
            pause = self._pause if error is None and self.is_shipper else RETRY_SECONDS
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), pause)
            self._wake.clear()

    @property
    def is_shipper(self) -> bool:
        return self._writer is not None and self._writer.is_holder

    def state(self, connection: Connection) -> ShippingState:
        """Seen from any replica."""
        position = self._position()
        oldest = connection.row("SELECT at FROM outbox WHERE number > ? ORDER BY number LIMIT 1", (position,))
        lag = max(0.0, time.time() - float(oldest[0])) if oldest else 0.0
        return ShippingState(self.is_shipper, position, lag, self._error)

    async def wait_for(self, number: int, deadline_seconds: float) -> None:
        """Return when the change is on the backup volume.

        Raises:
            ShippingError: it was not within the deadline.
        """
        deadline = time.monotonic() + deadline_seconds
        self._wake.set()
        while self._position() < number:
            if time.monotonic() >= deadline:
                raise ShippingError(
                    f"stored, but not yet on the backup volume after {deadline_seconds:g} s "
                    f"({self._error or 'the shipper is behind'}); it is sent there as soon as possible"
                )
            await asyncio.sleep(POLL_SECONDS)

    def close(self) -> None:
        """Leave the role to another replica; waits for the batch that is being written."""
        self._threads.shutdown()
        if self._writer is not None:
            self._writer.release()

    def _step(self) -> str | None:
        """Become the shipper if nobody is, and ship what there is; returns what went wrong."""
        try:
            writer = self._opened()
            if not writer.is_holder and not writer.acquire(self._database.read_now(outbox.first_kept)):
                return None
            self._ship(writer)
        except (OSError, DatabaseError, ShippingError) as error:
            return str(error)
        return None

    def _opened(self) -> SegmentWriter:
        if not self._backup_dir.is_dir():
            raise ShippingError(f"BACKUP_DIR {self._backup_dir} is no folder: mount the volume, or make it")
        if self._writer is None:
            self._folder = changes_folder(self._backup_dir, self._database.read_now(outbox.database_id))
            self._writer = SegmentWriter(self._folder)
        return self._writer

    def _ship(self, writer: SegmentWriter) -> None:
        newest = self._database.read_now(outbox.head)
        if newest < writer.position:
            raise ShippingError(
                f"the database has changes up to {newest:,}, but {writer.position:,} are shipped already: it went back "
                "in time without a restore. Shipping more would mix two histories."
            )
        while writer.position < newest:  # and not for as long as others write: each round costs a sync
            changes = self._database.read_now(lambda connection: next_changes(connection, writer.position))
            if not changes:
                break  # rows that were given up: see `outbox.discard`
            writer.append(changes)
        writer.close_old_segment()
        if time.monotonic() - self._discarded_at >= DISCARD_SECONDS:
            self._discarded_at = time.monotonic()
            self._discard(writer.position)

    def _discard(self, position: int) -> None:
        """Small steps, between which others write."""
        while self._database.read_now(outbox.first_kept) <= position:
            self._database.write_now(lambda connection: outbox.discard(connection, position))

    def _position(self) -> int:
        if self._writer is not None and self._writer.is_holder:
            return self._writer.position
        return read_position(self._folder) if self._folder is not None else 0
