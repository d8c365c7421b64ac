"""Taking documents in: durable, and searchable by keyword, before the answer."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from knowledgebeast_service.embedding.model import EmbeddingModel
from knowledgebeast_service.errors import InvalidInputError
from knowledgebeast_service.ingest.prepare import IncomingDocument, prepare, refusal
from knowledgebeast_service.ingest.worker import IngestWorker
from knowledgebeast_service.search.replica import KeywordReplica
from knowledgebeast_service.settings import LiveSettings
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.documents import upsert_documents
from knowledgebeast_service.storage.queries import get_task
from knowledgebeast_service.storage.records import Accepted, PreparedDocument

MIB = 1024 * 1024
WAIT_SECONDS = 30.0
POLL_SECONDS = 0.05  # another replica's worker may do the work, so there is no event to wait for

Status = Literal["accepted", "indexed", "queued"]


@dataclass(frozen=True)
class DocumentResult:
    """What became of one document; `error` is set when it was rejected."""

    id: str
    status: Literal["accepted", "indexed", "queued", "rejected"]
    error: str | None = None


@dataclass(frozen=True)
class Receipt:
    """The answer to an ingest request; `seq` is the project's sequence that holds it."""

    status: Status
    reason: str | None
    task_id: str
    seq: int
    results: tuple[DocumentResult, ...]


class AllRejectedError(InvalidInputError):
    """No document of the request could be taken."""

    def __init__(self, results: Sequence[DocumentResult]) -> None:
        super().__init__("No document could be taken: " + "; ".join(f"{r.id}: {r.error}" for r in results[:10]))
        self.results = tuple(results)


class Ingestion:
    """Accepts documents and, when asked, waits until they are searchable by vector."""

    def __init__(
        self,
        database: Database,
        replica: KeywordReplica,
        model: EmbeddingModel,
        worker: IngestWorker,
        settings: Callable[[], LiveSettings],
    ) -> None:
        self._database = database
        self._replica = replica
        self._model = model
        self._worker = worker
        self._settings = settings
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="prepare")

    async def accept(self, project: str, documents: Sequence[IncomingDocument], *, wait: bool) -> Receipt:
        """Store the documents.

        Raises:
            AllRejectedError: none could be taken.
            DatabaseError: nothing was stored.
        """
        largest = self._settings().max_document_size_mb * MIB
        rejected = {place: why for place, document in enumerate(documents) if (why := refusal(document, largest))}
        if len(rejected) == len(documents):
            raise AllRejectedError(_results(documents, rejected, "accepted"))
        taken = [document for place, document in enumerate(documents) if place not in rejected]
        prepared = await asyncio.get_running_loop().run_in_executor(self._threads, self._prepare, taken)
        errors = [{"id": documents[place].identity, "error": why} for place, why in rejected.items()]

        def store(connection: Connection) -> Accepted:
            return upsert_documents(connection, project, prepared, errors)

        accepted = await self._database.write(store)
        self._worker.wake()
        await self._replica.catch_up()
        is_indexed = wait and await self._wait_until_indexed(accepted.task_id)
        reason = None if is_indexed else self._worker.blocked_by() or (_overdue() if wait else None)
        status: Status = "indexed" if is_indexed else "queued" if reason else "accepted"
        return Receipt(status, reason, accepted.task_id, accepted.seq, _results(documents, rejected, status))

    def close(self) -> None:
        self._threads.shutdown()

    def _prepare(self, documents: Sequence[IncomingDocument]) -> list[PreparedDocument]:
        return [prepare(document, self._model.count_tokens) for document in documents]

    async def _wait_until_indexed(self, task_id: str) -> bool:
        """False when it takes too long, or something is in the way."""
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline and self._worker.blocked_by() is None:
            progress = await self._database.read(lambda connection: get_task(connection, task_id))
            if progress.pending == 0:
                return True
            await asyncio.sleep(POLL_SECONDS)
        return False


def _overdue() -> str:
    return f"not yet searchable by vector after {WAIT_SECONDS:.0f} s; it goes on by itself"


def _results(
    documents: Sequence[IncomingDocument], rejected: dict[int, str], status: Status
) -> tuple[DocumentResult, ...]:
    return tuple(
        DocumentResult(document.identity, "rejected", rejected[place])
        if place in rejected
        else DocumentResult(document.identity, status)
        for place, document in enumerate(documents)
    )
