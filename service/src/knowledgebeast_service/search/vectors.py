"""Vector search as queries use it: behind a circuit breaker, a bulkhead and a deadline, failing in bounded time."""

from collections.abc import Callable, Sequence

import numpy as np

from knowledgebeast_service.errors import CollectionMissingError, VectorStoreError
from knowledgebeast_service.resilience.breaker import CircuitBreaker
from knowledgebeast_service.resilience.bulkhead import Bulkhead, BulkheadFullError
from knowledgebeast_service.search.collection_health import CollectionHealth
from knowledgebeast_service.search.placement import Collections
from knowledgebeast_service.search.replica import ProjectView
from knowledgebeast_service.search.stored_vectors import nearest_stored
from knowledgebeast_service.search.vector_store import NO_NEIGHBOURS, Matrix, Neighbours
from knowledgebeast_service.settings import LiveSettings
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.ingest_queue import sample_published
from knowledgebeast_service.storage.records import Project

# Queries that may wait for Chroma at once. A hung Chroma answers none of them; the rest must not queue up behind.
CONCURRENT_QUERIES = 16
# A filter is applied to so many neighbours; a `where` inside Chroma would cost thirty times as much.
FILTERED_NEIGHBOURS = 1000
# Up to so many documents, reading their vectors from the database takes less time than those neighbours.
FEW_DOCUMENTS = 500
# A project of up to so many chunks is ranked from the database when Chroma has not returned all of them.
FEW_CHUNKS = 1000


class VectorSearch:
    """Asks Chroma for the neighbours of a query, or says at once why it cannot."""

    def __init__(
        self,
        collections: Collections,
        breaker: CircuitBreaker,
        settings: Callable[[], LiveSettings],
        database: Database,
        health: CollectionHealth,
    ) -> None:
        self._collections = collections
        self._breaker = breaker
        self._health = health
        self._settings = settings
        self._database = database
        self._bulkhead = Bulkhead(CONCURRENT_QUERIES)

    def why_off(self, project: Project | None = None) -> str | None:
        """Why vectors are not asked for now, by nobody or for this project; None when they are."""
        if not self._breaker.is_closed:
            return f"vector search is off until Chroma answers its canaries: {self._breaker.reason}"
        if project is not None and (reason := self._health.reason(project.id)):
            return f"vector search is off for this project: {reason}"
        return None

    async def neighbours(self, view: ProjectView, model_hash: str, vector: Matrix, limit: int) -> Neighbours:
        """The nearest stored vectors, nearest first; `vector` has shape (1, dimension).

        An HNSW graph may hold vectors that no walk through it reaches: of 40 put in as two batches, Chroma 1.5.9
        may return 39, however many are asked for. In a small project such a loss is seen and made good.

        Raises:
            VectorStoreError: the answer must do without vectors; the sentence says why.
        """
        found = await self._in_chroma(view.project, model_hash, vector, limit)
        if view.index.size > FEW_CHUNKS or len(found) >= min(limit, view.index.size):
            return found
        return await self._database.read(
            lambda connection: nearest_stored(connection, view.project.id, model_hash, vector, limit)
        )

    async def _in_chroma(self, project: Project, model_hash: str, vector: Matrix, limit: int) -> Neighbours:
        if reason := self.why_off(project):
            raise VectorStoreError(reason)
        timeout_seconds = self._settings().chroma_timeout_seconds
        try:
            with self._bulkhead.enter():
                found = await self._collections.query(project, model_hash, vector, limit, timeout_seconds)
        except BulkheadFullError:
            raise VectorStoreError(f"{CONCURRENT_QUERIES} queries already wait for Chroma") from None
        except CollectionMissingError as error:
            if not await self._has_published(project, model_hash):
                return NO_NEIGHBOURS  # nothing has been indexed yet: not a fault
            self._breaker.record_failure(str(error))
            raise
        except VectorStoreError as error:
            self._breaker.record_failure(str(error))
            raise
        self._breaker.record_success()
        return found[0]

    async def neighbours_among(
        self, view: ProjectView, model_hash: str, vector: Matrix, limit: int, only: Sequence[int]
    ) -> Neighbours:
        """The same among the documents `only` (internal ids): exactly, however few of all they are."""
        if not only:
            return NO_NEIGHBOURS
        if len(only) > FEW_DOCUMENTS:
            found = await self.neighbours(view, model_hash, vector, FILTERED_NEIGHBOURS)
            documents = view.index.documents_of(found.chunk_ids)
            passing = found.take(np.flatnonzero(np.isin(documents, np.asarray(only))))
            if len(passing) >= limit or len(found) < FILTERED_NEIGHBOURS:
                return passing.take(slice(limit))
        # What the filter leaves may lie beyond any number of neighbours: rank all of it.
        return await self._database.read(
            lambda connection: nearest_stored(connection, view.project.id, model_hash, vector, limit, only)
        )

    async def _has_published(self, project: Project, model_hash: str) -> bool:
        return bool(
            await self._database.read(lambda connection: sample_published(connection, project.id, model_hash, 1))
        )
