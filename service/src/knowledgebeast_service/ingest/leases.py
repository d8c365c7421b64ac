"""What a worker holds of the queue, and how it gives it back."""

import logging
from collections.abc import Callable, Mapping, Sequence

from knowledgebeast_service.errors import DatabaseError
from knowledgebeast_service.settings import LiveSettings
from knowledgebeast_service.storage import dead_letters, ingest_queue
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.records import QueueItem

log = logging.getLogger(__name__)


class Leases:
    """The rows of one worker, which is named by `owner`."""

    def __init__(
        self, database: Database, owner: str, settings: Callable[[], LiveSettings], lease_seconds: float
    ) -> None:
        self._database = database
        self.owner = owner
        self._settings = settings
        self._lease_seconds = lease_seconds

    async def take(self, ops: tuple[str, ...], limit: int) -> list[QueueItem]:
        """Up to `limit` rows, oldest first."""
        if not await self._database.read(lambda connection: ingest_queue.has_work(connection, ops)):
            return []
        return await self._database.write(
            lambda connection: ingest_queue.lease(connection, ops, self.owner, limit, self._lease_seconds)
        )

    async def give_back(self, items: Sequence[QueueItem], pause_seconds: float = 0) -> None:
        """After a failure that is not theirs; nobody takes them again before the pause has ended."""
        try:
            await self._database.write(
                lambda connection: ingest_queue.release(connection, items, self.owner, pause_seconds)
            )
        except DatabaseError as error:
            log.warning("leases end by themselves, they could not be given back: %s", error)

    async def give_back_failed(self, failures: Mapping[QueueItem, str], model_hash: str) -> None:
        """After a failure of their own: they wait, and become dead letters when their tries are used up."""
        if not failures:
            return
        max_tries = self._settings().ingest_max_tries
        given_up = await self._database.write(
            lambda connection: dead_letters.record_failures(connection, failures, model_hash, self.owner, max_tries)
        )
        for item, reason in failures.items():
            end = f"given up after {max_tries} tries" if item.chunk_id in given_up else "tried again later"
            log.warning("chunk %d fails by itself and is %s: %s", item.chunk_id, end, reason)

    def give_back_all(self) -> None:
        """When the worker leaves in good order."""
        try:
            self._database.write_now(lambda connection: ingest_queue.release_all(connection, self.owner))
        except DatabaseError as error:
            log.warning("leases end by themselves, they could not be given back: %s", error)
