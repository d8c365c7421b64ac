"""/api/v1: taking documents in, and what becomes of them: tasks, dead letters."""

from typing import Annotated

from fastapi import APIRouter, Body, Path, Query, status

from knowledgebeast_service.api.routes import Limit, Parts, ProjectPath
from knowledgebeast_service.api.schemas import (
    DeadLetterOut,
    DeadLettersOut,
    DocumentOut,
    IngestIn,
    IngestOut,
    ProblemOut,
    RetriedOut,
    RetryBody,
    TaskOut,
)
from knowledgebeast_service.api.visibility import Caller, require_visible_task, require_writable
from knowledgebeast_service.ingest.accept import Receipt
from knowledgebeast_service.ingest.prepare import IncomingDocument
from knowledgebeast_service.storage import dead_letters, queries
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.records import TaskProgress

router = APIRouter(
    prefix="/api/v1",
    responses={code: {"model": ProblemOut} for code in (404, 413, 422, 429, 503, 507)},
)


@router.post("/ingest", status_code=status.HTTP_202_ACCEPTED)
async def ingest(body: IngestIn, parts: Parts, caller: Caller, *, wait: bool = False) -> IngestOut:
    """Store documents. They are durable and found by keyword at once, by vector soon after (`wait=true`: before the
    answer, for up to 30 s). A document replaces the one with the same id; the project is made when absent.
    """
    require_writable(caller, body.project)
    documents = [IncomingDocument(one.text, one.title, one.id, one.metadata) for one in body.documents]
    return receipt_out(await parts.ingestion.accept(body.project, documents, wait=wait))


def receipt_out(receipt: Receipt) -> IngestOut:
    """The answer to an ingest request."""
    return IngestOut(
        status=receipt.status,
        reason=receipt.obstacle.reason if receipt.obstacle else None,
        detail=receipt.obstacle.detail if receipt.obstacle else None,
        task_id=receipt.task_id,
        seq=receipt.seq,
        results=[
            DocumentOut(id=one.id, status=one.status, error=one.error, unchanged=one.is_unchanged)
            for one in receipt.results
        ],
    )


@router.get("/projects/{project}/dead-letters")
async def list_dead_letters(
    parts: Parts,
    project: ProjectPath,
    limit: Limit = 100,
    cursor: Annotated[int, Query(ge=0, le=2**63 - 1, description="`next_cursor` of the page before")] = 0,
) -> DeadLettersOut:
    """Chunks that were given up after INGEST_MAX_TRIES failures of their own. Keywords find them all the same."""
    found = await parts.database.read(
        lambda connection: dead_letters.list_dead_letters(connection, project, cursor, limit)
    )
    return DeadLettersOut(
        dead_letters=[
            DeadLetterOut(
                chunk_id=one.chunk_id,
                document_id=one.document_id,
                stage="embed" if one.op == "embed" else "publish",
                reason=one.reason,
                tries=one.tries,
                failed_at=one.failed_at,
            )
            for one in found
        ],
        next_cursor=found[-1].chunk_id if len(found) == limit else None,
    )


@router.post("/projects/{project}/dead-letters/retry")
async def retry_dead_letters(
    parts: Parts, project: ProjectPath, body: Annotated[RetryBody | None, Body()] = None
) -> RetriedOut:
    """Queue dead letters again, all of the project or those named."""
    chunk_ids = None if body is None else body.chunk_ids
    count = await parts.database.write(
        lambda connection: dead_letters.retry_dead_letters(connection, project, chunk_ids)
    )
    parts.worker.wake()
    return RetriedOut(retried=count)


@router.get("/tasks/{task_id}")
async def get_task(parts: Parts, caller: Caller, task_id: Annotated[str, Path(pattern=r"^[0-9a-f]{16}$")]) -> TaskOut:
    """Progress of an ingest request; tasks are kept for 7 days."""

    def read(connection: Connection) -> TaskProgress:
        require_visible_task(connection, caller, task_id)
        return queries.get_task(connection, task_id)

    return _task(await parts.database.read(read))


def _task(progress: TaskProgress) -> TaskOut:
    done = progress.total - progress.pending
    if progress.pending:
        state = "queued" if done == len(progress.errors) else "running"
    else:
        state = "failed" if len(progress.errors) == progress.total else "succeeded"
    return TaskOut(
        task_id=progress.id,
        status=state,
        done=done,
        total=progress.total,
        errors=[dict(error) for error in progress.errors],
    )
