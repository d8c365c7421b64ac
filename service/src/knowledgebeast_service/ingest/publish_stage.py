"""Second stage of the queue: vectors of the database reach Chroma, and removed ones leave it."""

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from knowledgebeast_service.embedding.model import EmbeddingModel
from knowledgebeast_service.errors import CollectionMissingError, DatabaseError, VectorStoreError
from knowledgebeast_service.ingest.isolate import isolate
from knowledgebeast_service.ingest.leases import Leases
from knowledgebeast_service.search.collection_health import CollectionHealth
from knowledgebeast_service.search.placement import Collections
from knowledgebeast_service.settings import LiveSettings
from knowledgebeast_service.storage import generations, ingest_queue
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.generations import Generation
from knowledgebeast_service.storage.records import QueueItem, Vector, unpack_vector

log = logging.getLogger(__name__)

BATCH = 256
OPS = ("publish", "refill", "delete")
# Writes may take far longer than queries (an index is persisted meanwhile); a lease lasts longer still.
WRITE_TIMEOUT_SECONDS = 15.0
# A project whose collection refuses everything steps back for so long, and lets the others pass.
STEP_BACK_SECONDS = 10.0


class PublishStage:
    """Idempotent, and safe to run in several processes."""

    def __init__(
        self,
        database: Database,
        model: EmbeddingModel,
        collections: Collections,
        leases: Leases,
        settings: Callable[[], LiveSettings],
        health: CollectionHealth,
    ) -> None:
        self._database = database
        self._model = model
        self._collections = collections
        self._leases = leases
        self._settings = settings
        self._health = health

    async def step(self) -> bool:
        """Bring one batch to Chroma; False when there is nothing to do.

        Raises:
            VectorStoreError, DatabaseError: nothing is lost, try again later.
        """
        await self._drop_retired()
        await self._drop_replaced()
        model_hash = await self._model_hash()
        items = await self._leases.take(OPS, BATCH) if model_hash else []
        if not items or not model_hash:
            return False
        by_project: dict[int, list[QueueItem]] = defaultdict(list)
        for item in items:
            by_project[item.project_id].append(item)
        refused: list[QueueItem] = []
        errors: list[VectorStoreError] = []
        try:
            for project_id, project_items in by_project.items():
                if self._health.refusal_to_write(project_id):
                    await self._leases.give_back(project_items, STEP_BACK_SECONDS)
                    continue
                try:
                    await self._publish(project_items, model_hash)
                except VectorStoreError as error:
                    refused += project_items
                    errors.append(error)
        except DatabaseError:
            await self._leases.give_back(items)
            raise
        if errors:
            await self._step_back(refused, errors[0], is_alone=len(errors) == len(by_project))
        return True

    async def _step_back(self, refused: Sequence[QueueItem], error: VectorStoreError, *, is_alone: bool) -> None:
        """A collection that refuses everything must not stand before those of other projects for ever."""
        try:
            await self._collections.store.probe(WRITE_TIMEOUT_SECONDS)
        except VectorStoreError:
            await self._leases.give_back(refused)
            raise
        await self._leases.give_back(refused, STEP_BACK_SECONDS)
        if is_alone:
            raise error
        log.warning("%d vectors wait, those of other projects pass: %s", len(refused), error)

    async def _publish(self, items: Sequence[QueueItem], model_hash: str) -> None:
        deleted = [item for item in items if item.op == "delete"]
        vectors = await self._database.read(
            lambda connection: ingest_queue.vectors_to_publish(connection, model_hash, items)
        )
        ready = [item for item in items if item.op != "delete" and item.chunk_id in vectors]
        stale = [item for item in items if item.op != "delete" and item.chunk_id not in vectors]
        written = await self._collections.written(items[0].project_uid, model_hash)

        async def attempt(some: Sequence[QueueItem]) -> None:
            for generation in written:
                await self._upsert(generation, some, vectors)

        sent = await isolate(ready, attempt, partial(self._works, items[0].project_id, written))
        for generation in written if deleted else ():
            await self._collections.delete(generation, [item.chunk_id for item in deleted], WRITE_TIMEOUT_SECONDS)

        def finish(connection: Connection) -> None:
            ingest_queue.back_to_embedding(connection, stale)
            ingest_queue.complete(connection, [*sent.succeeded, *deleted], self._leases.owner)
            ingest_queue.release(connection, stale, self._leases.owner)

        await self._database.write(finish)
        await self._leases.give_back_failed(sent.failed, model_hash)

    async def _upsert(self, generation: Generation, items: Sequence[QueueItem], vectors: dict[int, Vector]) -> None:
        chunk_ids = [item.chunk_id for item in items]
        matrix = np.stack([vectors[chunk_id] for chunk_id in chunk_ids])
        try:
            await self._collections.upsert(generation, chunk_ids, matrix, WRITE_TIMEOUT_SECONDS)
        except CollectionMissingError:
            if generation.state == "building":
                return  # not made yet: its filling will find these vectors in the database
            # Queue what it should hold before making it: a crash in between must not leave it looking complete.
            project_id = items[0].project_id
            await self._database.write(
                lambda connection: ingest_queue.refill_project(connection, project_id, generation.model_hash)
            )
            await self._collections.create(generation, WRITE_TIMEOUT_SECONDS)
            await self._collections.upsert(generation, chunk_ids, matrix, WRITE_TIMEOUT_SECONDS)

    async def _works(self, project_id: int, written: Sequence[Generation]) -> bool | None:
        """Whether the collection takes a vector that it has taken before; None when there is none."""
        generation = written[0]  # the serving one
        known = await self._database.read(
            lambda connection: ingest_queue.sample_published(connection, project_id, generation.model_hash, 1)
        )
        matrix = np.stack([unpack_vector(vector) for vector in known.values()]) if known else None
        try:
            await self._collections.store.probe(WRITE_TIMEOUT_SECONDS)
            if matrix is None:
                return None
            await self._collections.upsert(generation, list(known), matrix, WRITE_TIMEOUT_SECONDS)
            remaining = await self._database.read(
                lambda connection: ingest_queue.stored_vectors(
                    connection, project_id, generation.model_hash, list(known)
                )
            )
            if not remaining:  # deleted meanwhile, maybe from the collection, too: it must not come back by this
                await self._collections.delete(generation, list(known), WRITE_TIMEOUT_SECONDS)
        except VectorStoreError:
            return False
        return True

    async def _drop_retired(self) -> None:
        retired = await self._database.read(ingest_queue.retired_collections)
        for uid, hashes in retired:
            first = [Generation(uid, model_hash) for model_hash in hashes]
            later = await self._database.read(partial(generations.all_generations, project_uid=uid))
            for generation in [*first, *later]:
                await self._collections.drop(generation, WRITE_TIMEOUT_SECONDS)
        if retired:
            uids = [uid for uid, _ in retired]
            await self._database.write(lambda connection: ingest_queue.forget_retired(connection, uids))

    async def _drop_replaced(self) -> None:
        """Collections that a rebuild has replaced long ago, and those of a rebuild that was given up."""
        kept_seconds = self._settings().kept_collection_hours * 3600
        if not await self._database.read(partial(generations.has_generations_to_drop, kept_seconds=kept_seconds)):
            return
        due = await self._database.write(partial(generations.generations_to_drop, kept_seconds=kept_seconds))
        for generation in due:
            await self._collections.drop(generation, WRITE_TIMEOUT_SECONDS)
        await self._database.write(partial(generations.forget_generations, generations=due))

    async def _model_hash(self) -> str | None:
        manifest = self._model.manifest
        return manifest.model_hash if manifest else await self._database.read(ingest_queue.newest_model_hash)
