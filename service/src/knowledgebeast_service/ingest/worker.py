"""The worker behind the queue: embed, keep the vector, publish it to Chroma. Idempotent, and safe to run twice.

Two stages with a queue state each, so that a Chroma that is away does not stop the embedding, nor a missing model the
refill of a collection from stored vectors.
"""

import asyncio
import logging
import os
import secrets
import socket
from collections import defaultdict
from collections.abc import Awaitable, Callable

import numpy as np

from knowledgebeast_service.embedding.manifest import Manifest
from knowledgebeast_service.embedding.model import EmbeddingModel
from knowledgebeast_service.errors import (
    CollectionMissingError,
    DatabaseError,
    ModelUnavailableError,
    UnavailableError,
    VectorStoreError,
)
from knowledgebeast_service.ingest.prepare import searchable_text
from knowledgebeast_service.resilience.breaker import CircuitBreaker
from knowledgebeast_service.resilience.retry import backoff_seconds
from knowledgebeast_service.search.vector_store import VectorStore, collection_name
from knowledgebeast_service.settings import LiveSettings
from knowledgebeast_service.storage import ingest_queue
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.records import Project, QueueItem, Vector

log = logging.getLogger(__name__)

EMBED_BATCH = 32
PUBLISH_BATCH = 256
# Another replica's documents, and leases of a dead one, are found by looking.
POLL_SECONDS = 1.0
# Writes may take far longer than queries (an index is persisted meanwhile); a lease lasts longer still.
WRITE_TIMEOUT_SECONDS = 15.0
EMBED, PUBLISH = ("embed",), ("publish", "refill", "delete")


class IngestWorker:
    """Runs both stages; `blocked_by` says what is in the way."""

    def __init__(
        self,
        database: Database,
        model: EmbeddingModel,
        store: VectorStore,
        breaker: CircuitBreaker,
        settings: Callable[[], LiveSettings],
    ) -> None:
        self._database = database
        self._model = model
        self._store = store
        self._breaker = breaker
        self._settings = settings
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._wakes = {"embed": asyncio.Event(), "publish": asyncio.Event()}
        self._errors: dict[str, str] = {}
        model.on_loaded(self._requeue_for)
        self._requeue_hash: str | None = None

    def blocked_by(self) -> str | None:
        """Why documents stay queued, or None; a model that is still loading is no obstacle, only a wait."""
        if not self._model.is_loaded and not self._model.is_loading:
            return self._model.error
        if not self._breaker.is_closed:
            return f"Chroma: {self._breaker.reason}"
        return next(iter(self._errors.values()), None)

    def close(self) -> None:
        """Give back the leases, or the documents would wait for them to end."""
        try:
            self._database.write_now(lambda connection: ingest_queue.release_all(connection, self._owner))
        except DatabaseError as error:
            log.warning("leases end by themselves, they could not be given back: %s", error)

    def wake(self) -> None:
        """There may be something to do, or a reason to try again."""
        for event in self._wakes.values():
            event.set()

    async def run(self) -> None:
        """Both stages, until cancelled."""
        async with asyncio.TaskGroup() as stages:
            stages.create_task(self._stage("embed", self._embed_batch))
            stages.create_task(self._stage("publish", self._publish_batch))

    async def refill(self, project: Project, model_hash: str) -> None:
        """The project's collection is gone: queue all its vectors again."""
        count = await self._database.write(
            lambda connection: ingest_queue.refill_project(connection, project.id, model_hash)
        )
        if count:
            log.warning("collection of project %s is missing: %d vectors are sent again", project.name, count)
        self._wakes["publish"].set()

    async def _stage(self, name: str, work: Callable[[], Awaitable[bool]]) -> None:
        failures = 0
        while True:
            self._wakes[name].clear()
            try:
                while await work():
                    failures = 0
                    self._errors.pop(name, None)
                wait = POLL_SECONDS
            except UnavailableError as error:
                if self._errors.get(name) != str(error):
                    log.warning("ingest queue, stage %s: %s", name, error)
                self._errors[name] = str(error)
                wait = backoff_seconds(failures, longest=self._settings().chroma_probe_interval_seconds)
                failures += 1
            else:
                failures = 0
                self._errors.pop(name, None)
            await _wait_for(self._wakes[name], wait)

    async def _embed_batch(self) -> bool:
        """Embed one batch; False when there is nothing to do."""
        manifest = self._model.manifest
        if manifest is None:
            return False
        await self._requeue_once()
        items = await self._lease(EMBED, EMBED_BATCH)
        if not items:
            return False
        try:
            texts = await self._database.read(lambda connection: ingest_queue.texts_to_embed(connection, items))
            matrix = await self._model.embed_documents([searchable_text(*text) for text in texts.values()])
            vectors = dict(zip(texts, matrix, strict=True))
            await self._store_vectors(manifest.model_hash, items, vectors)
        except (ModelUnavailableError, DatabaseError):
            await self._release(items)
            raise
        self._wakes["publish"].set()
        return True

    async def _publish_batch(self) -> bool:
        """Bring one batch to Chroma; False when there is nothing to do."""
        await self._drop_retired()
        model_hash = await self._model_hash()
        items = await self._lease(PUBLISH, PUBLISH_BATCH) if model_hash else []
        if not items or not model_hash:
            return False
        by_project: dict[int, list[QueueItem]] = defaultdict(list)
        for item in items:
            by_project[item.project_id].append(item)
        try:
            for project_items in by_project.values():
                await self._publish(project_items, model_hash)
        except (VectorStoreError, DatabaseError):
            await self._release(items)
            raise
        return True

    async def _publish(self, items: list[QueueItem], model_hash: str) -> None:
        collection = collection_name(items[0].project_uid, model_hash)
        deleted = [item for item in items if item.op == "delete"]
        vectors = await self._database.read(
            lambda connection: ingest_queue.vectors_to_publish(connection, model_hash, items)
        )
        ready = [item for item in items if item.op != "delete" and item.chunk_id in vectors]
        stale = [item for item in items if item.op != "delete" and item.chunk_id not in vectors]
        if ready:
            await self._upsert(collection, ready, vectors, model_hash)
        if deleted:
            try:
                await self._store.delete(collection, [item.chunk_id for item in deleted], WRITE_TIMEOUT_SECONDS)
            except CollectionMissingError:
                log.debug("nothing to delete: %s does not exist", collection)

        def finish(connection: Connection) -> None:
            ingest_queue.back_to_embedding(connection, stale)
            ingest_queue.complete(connection, [*ready, *deleted], self._owner)
            ingest_queue.release(connection, stale, self._owner)

        await self._database.write(finish)

    async def _upsert(
        self, collection: str, items: list[QueueItem], vectors: dict[int, Vector], model_hash: str
    ) -> None:
        chunk_ids = [item.chunk_id for item in items]
        matrix = np.stack([vectors[chunk_id] for chunk_id in chunk_ids])
        try:
            await self._store.upsert(collection, chunk_ids, matrix, WRITE_TIMEOUT_SECONDS)
        except CollectionMissingError:
            # Queue what it should hold before making it: a crash in between must not leave it looking complete.
            project_id = items[0].project_id
            await self._database.write(
                lambda connection: ingest_queue.refill_project(connection, project_id, model_hash)
            )
            await self._store.create_collection(collection, WRITE_TIMEOUT_SECONDS)
            await self._store.upsert(collection, chunk_ids, matrix, WRITE_TIMEOUT_SECONDS)

    async def _drop_retired(self) -> None:
        retired = await self._database.read(ingest_queue.retired_collections)
        if not retired:
            return
        for uid, hashes in retired:
            for model_hash in hashes:
                try:
                    await self._store.drop_collection(collection_name(uid, model_hash), WRITE_TIMEOUT_SECONDS)
                except CollectionMissingError:
                    continue
        uids = [uid for uid, _ in retired]
        await self._database.write(lambda connection: ingest_queue.forget_retired(connection, uids))

    async def _model_hash(self) -> str | None:
        manifest = self._model.manifest
        return manifest.model_hash if manifest else await self._database.read(ingest_queue.newest_model_hash)

    def _requeue_for(self, manifest: Manifest) -> None:
        self._requeue_hash = manifest.model_hash
        self._wakes["embed"].set()

    async def _requeue_once(self) -> None:
        """After a model was loaded: embed what it has not embedded yet."""
        model_hash = self._requeue_hash
        if model_hash is None:
            return
        count = await self._database.write(
            lambda connection: ingest_queue.queue_chunks_without_vector(connection, model_hash)
        )
        if count:
            log.info("%d chunks have no vector of model %s and are queued", count, model_hash)
        self._requeue_hash = None

    async def _lease(self, ops: tuple[str, ...], limit: int) -> list[QueueItem]:
        if not await self._database.read(lambda connection: ingest_queue.has_work(connection, ops)):
            return []
        return await self._database.write(lambda connection: ingest_queue.lease(connection, ops, self._owner, limit))

    async def _release(self, items: list[QueueItem]) -> None:
        try:
            await self._database.write(lambda connection: ingest_queue.release(connection, items, self._owner))
        except DatabaseError as error:
            log.warning("leases end by themselves, they could not be given back: %s", error)

    async def _store_vectors(self, model_hash: str, items: list[QueueItem], vectors: dict[int, Vector]) -> None:
        await self._database.write(
            lambda connection: ingest_queue.store_vectors(connection, model_hash, items, vectors, self._owner)
        )


async def _wait_for(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
