"""Vector search as queries use it: behind a circuit breaker, a bulkhead and a deadline, failing in bounded time."""

from collections.abc import Callable

from knowledgebeast_service.errors import CollectionMissingError, VectorStoreError
from knowledgebeast_service.resilience.breaker import CircuitBreaker
from knowledgebeast_service.resilience.bulkhead import Bulkhead, BulkheadFullError
from knowledgebeast_service.search.vector_store import Matrix, Neighbour, VectorStore, collection_name
from knowledgebeast_service.settings import LiveSettings
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.ingest_queue import sample_published
from knowledgebeast_service.storage.records import Project

# Queries that may wait for Chroma at once. A hung Chroma answers none of them; the rest must not queue up behind.
CONCURRENT_QUERIES = 16


class VectorSearch:
    """Asks Chroma for the neighbours of a query, or says at once why it cannot."""

    def __init__(
        self, store: VectorStore, breaker: CircuitBreaker, settings: Callable[[], LiveSettings], database: Database
    ) -> None:
        self._store = store
        self._breaker = breaker
        self._settings = settings
        self._database = database
        self._bulkhead = Bulkhead(CONCURRENT_QUERIES)

    async def neighbours(self, project: Project, model_hash: str, vector: Matrix, limit: int) -> list[Neighbour]:
        """The nearest stored vectors, nearest first; `vector` has shape (1, dimension).

        Raises:
            VectorStoreError: the answer must do without vectors; the sentence says why.
        """
        if not self._breaker.is_closed:
            raise VectorStoreError(f"vector search is off until Chroma answers its canaries: {self._breaker.reason}")
        collection = collection_name(project.uid, model_hash)
        try:
            with self._bulkhead.enter():
                found = await self._store.query(collection, vector, limit, self._settings().chroma_timeout_seconds)
        except BulkheadFullError:
            raise VectorStoreError(f"{CONCURRENT_QUERIES} queries already wait for Chroma") from None
        except CollectionMissingError as error:
            if not await self._has_published(project, model_hash):
                return []  # nothing has been indexed yet: not a fault
            self._breaker.record_failure(str(error))
            raise
        except VectorStoreError as error:
            self._breaker.record_failure(str(error))
            raise
        self._breaker.record_success()
        return found[0]

    async def _has_published(self, project: Project, model_hash: str) -> bool:
        return bool(
            await self._database.read(lambda connection: sample_published(connection, project.id, model_hash, 1))
        )
