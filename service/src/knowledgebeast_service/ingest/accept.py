"""Taking documents in: durable, and searchable by keyword, before the answer."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeVar

from knowledgebeast_service.embedding.model import EmbeddingModel
from knowledgebeast_service.errors import InvalidInputError
from knowledgebeast_service.ingest.prepare import IncomingDocument, InspectedDocument, inspect_document, prepare
from knowledgebeast_service.ingest.worker import IngestWorker, Obstacle
from knowledgebeast_service.search.replica import KeywordReplica
from knowledgebeast_service.settings import LiveSettings
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.documents import ContentChangedError, find_unchanged, upsert_documents
from knowledgebeast_service.storage.filesystem import require_room
from knowledgebeast_service.storage.queries import get_task
from knowledgebeast_service.storage.records import Accepted, StoredContent, UnchangedDocument

T = TypeVar("T")

MIB = 1024 * 1024
LONG_BYTES = MIB  # of a request
WAIT_SECONDS = 30.0
LOADING_SECONDS = 10.0  # after a start; a model that is away keeps nobody waiting
POLL_SECONDS = 0.05  # another replica's worker may do the work, so there is no event to wait for

Status = Literal["accepted", "indexed", "queued"]


@dataclass(frozen=True)
class DocumentResult:
    """What became of one document; `error` is set when it was rejected, `is_unchanged` when it was there already."""

    id: str
    status: Literal["accepted", "indexed", "queued", "rejected"]
    error: str | None = None
    is_unchanged: bool = False


@dataclass(frozen=True)
class Receipt:
    """The answer to an ingest request; `seq` is the project's sequence that holds it."""

    status: Status
    obstacle: Obstacle | None
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
        # A text of megabytes takes many seconds; those who send a page must not wait behind it.
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="prepare")
        self._threads_for_long = ThreadPoolExecutor(1, thread_name_prefix="prepare-long")

    async def accept(self, project: str, documents: Sequence[IncomingDocument], *, wait: bool) -> Receipt:
        """Store the documents.

        Raises:
            AllRejectedError: none could be taken.
            VolumeFullError, DatabaseError: nothing was stored.
        """
        self.require_room()
        largest = self._settings().max_document_size_mb * MIB
        inspected = await self._in_thread(lambda: [inspect_document(one) for one in documents], self._threads)
        rejected = {place: why for place, one in enumerate(inspected) if (why := one.refusal(largest))}
        if len(rejected) == len(documents):
            raise AllRejectedError(_results(inspected, rejected, frozenset(), "accepted"))
        taken = [one for place, one in enumerate(inspected) if place not in rejected]
        errors = [{"id": inspected[place].identity, "error": why} for place, why in rejected.items()]
        try:
            accepted, unchanged = await self._store(project, taken, errors, await self._find_unchanged(project, taken))
        except ContentChangedError:
            accepted, unchanged = await self._store(project, taken, errors, {})
        self._worker.wake()
        await self._replica.catch_up()
        is_indexed = wait and await self._wait_until_indexed(accepted)
        obstacle = (
            None if is_indexed else self._worker.blocked_by(accepted.project_id) or (_overdue() if wait else None)
        )
        status: Status = "indexed" if is_indexed else "queued" if obstacle else "accepted"
        results = _results(inspected, rejected, unchanged, status)
        return Receipt(status, obstacle, accepted.task_id, accepted.seq, results)

    def require_room(self) -> None:
        """Raise VolumeFullError while the volume of the database is too full for more documents."""
        require_room(self._database.path.parent, self._settings().max_volume_used_percent)

    def close(self) -> None:
        self._threads.shutdown()
        self._threads_for_long.shutdown(cancel_futures=True)

    async def _in_thread(self, work: Callable[[], T], threads: ThreadPoolExecutor) -> T:
        return await asyncio.get_running_loop().run_in_executor(threads, work)

    async def _find_unchanged(self, project: str, documents: Sequence[InspectedDocument]) -> dict[str, StoredContent]:
        """By id; a document that the request has twice is not looked for, because the last one must win."""
        times = Counter(one.identity for one in documents)
        wanted = {one.identity: one.content_hash for one in documents if times[one.identity] == 1}
        return await self._database.read(lambda connection: find_unchanged(connection, project, wanted))

    async def _store(
        self,
        project: str,
        documents: Sequence[InspectedDocument],
        errors: Sequence[dict[str, str]],
        stored: Mapping[str, StoredContent],
    ) -> tuple[Accepted, frozenset[str]]:
        """Returns the ids of the unchanged ones, too."""
        changed = [one for one in documents if one.identity not in stored]
        is_long = sum(one.facts.size_bytes for one in changed) >= LONG_BYTES
        threads = self._threads_for_long if is_long else self._threads
        # Chunks that are cut by estimated tokens are too short for good, and searches are worse by that.
        await self._model.first_try(LOADING_SECONDS)
        prepared = await self._in_thread(lambda: [prepare(one, self._model.count_tokens) for one in changed], threads)
        unchanged = [_unchanged(one, stored[one.identity]) for one in documents if one.identity in stored]

        def store(connection: Connection) -> Accepted:
            return upsert_documents(connection, project, prepared, errors, unchanged)

        return await self._database.write(store), frozenset(stored)

    async def _wait_until_indexed(self, accepted: Accepted) -> bool:
        """False when it takes too long, or something is in the way."""
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline and self._worker.blocked_by(accepted.project_id) is None:
            progress = await self._database.read(lambda connection: get_task(connection, accepted.task_id))
            if progress.pending == 0:
                return True
            await asyncio.sleep(POLL_SECONDS)
        return False


def _overdue() -> Obstacle:
    return Obstacle("overdue", f"not yet searchable by vector after {WAIT_SECONDS:.0f} s; it goes on by itself")


def _unchanged(document: InspectedDocument, stored: StoredContent) -> UnchangedDocument:
    is_same_metadata = document.metadata_json == stored.metadata_json
    return UnchangedDocument(
        stored.document_id, stored.content_hash, None if is_same_metadata else document.metadata_json
    )


def _results(
    documents: Sequence[InspectedDocument], rejected: Mapping[int, str], unchanged: frozenset[str], status: Status
) -> tuple[DocumentResult, ...]:
    return tuple(
        DocumentResult(document.identity, "rejected", rejected[place])
        if place in rejected
        else DocumentResult(document.identity, status, is_unchanged=document.identity in unchanged)
        for place, document in enumerate(documents)
    )
