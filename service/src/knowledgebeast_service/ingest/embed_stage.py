"""First stage of the queue: texts become vectors in the database."""

import logging
from collections.abc import Sequence

import numpy as np

from knowledgebeast_service.embedding.manifest import Manifest
from knowledgebeast_service.embedding.model import EmbeddingModel
from knowledgebeast_service.errors import DatabaseError, ModelUnavailableError
from knowledgebeast_service.ingest.isolate import isolate
from knowledgebeast_service.ingest.leases import Leases
from knowledgebeast_service.ingest.prepare import searchable_text
from knowledgebeast_service.storage import ingest_queue
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.records import QueueItem, Vector

log = logging.getLogger(__name__)

BATCH = 32
OPS = ("embed",)
HARMLESS_TEXT = "a text that every model can embed"


class EmbedStage:
    """`step` may run several times at once: while one batch is embedded, the next is fetched and the last is stored."""

    def __init__(self, database: Database, model: EmbeddingModel, leases: Leases) -> None:
        self._database = database
        self._model = model
        self._leases = leases
        self._requeue_hash: str | None = None

    def requeue_for(self, manifest: Manifest) -> None:
        """A model was loaded: before the next batch, queue what it has not embedded yet."""
        self._requeue_hash = manifest.model_hash

    async def step(self) -> bool:
        """Embed one batch; False when there is nothing to do.

        Raises:
            ModelUnavailableError, DatabaseError: nothing is lost, try again later.
        """
        manifest = self._model.manifest
        if manifest is None:
            return False
        await self._requeue_once()
        items = await self._leases.take(OPS, BATCH)
        if not items:
            return False
        try:
            await self._embed(items, manifest.model_hash)
        except (ModelUnavailableError, DatabaseError):
            await self._leases.give_back(items)
            raise
        return True

    async def _embed(self, items: Sequence[QueueItem], model_hash: str) -> None:
        texts = await self._database.read(lambda connection: ingest_queue.texts_to_embed(connection, items))
        existing = [item for item in items if item.chunk_id in texts]
        vectors: dict[int, Vector] = {}

        async def attempt(some: Sequence[QueueItem]) -> None:
            matrix = await self._model.embed_documents([searchable_text(*texts[item.chunk_id]) for item in some])
            if not np.isfinite(matrix).all():
                raise ModelUnavailableError("the model made a vector with numbers that are none", cause="runtime")
            vectors.update(zip((item.chunk_id for item in some), matrix, strict=True))

        failed = (await isolate(existing, attempt, self._works)).failed
        stored = [item for item in items if item not in failed]
        await self._database.write(
            lambda connection: ingest_queue.store_vectors(connection, model_hash, stored, vectors, self._leases.owner)
        )
        await self._leases.give_back_failed(failed, model_hash)

    async def _works(self) -> bool:
        try:
            await self._model.embed_documents([HARMLESS_TEXT])
        except ModelUnavailableError:
            return False
        return True

    async def _requeue_once(self) -> None:
        model_hash, self._requeue_hash = self._requeue_hash, None
        if model_hash is None:
            return
        try:
            count = await self._database.write(
                lambda connection: ingest_queue.queue_chunks_without_vector(connection, model_hash)
            )
        except DatabaseError:
            self._requeue_hash = model_hash
            raise
        if count:
            log.info("%d chunks have no vector of model %s and are queued", count, model_hash)
