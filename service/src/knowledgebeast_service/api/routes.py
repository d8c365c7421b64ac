"""/api/v1: ingest, query, projects, documents, tasks."""

import time
from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Path, Query, Request, Response, status
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from knowledgebeast_service.api.middleware import components_of
from knowledgebeast_service.api.schemas import (
    PROJECT_PATTERN,
    DeletedOut,
    DocumentDetail,
    DocumentId,
    DocumentOut,
    DocumentsOut,
    DocumentSummary,
    IngestIn,
    IngestOut,
    ProblemOut,
    ProjectIn,
    ProjectOut,
    ProjectsOut,
    QueryIn,
    QueryOut,
    TaskOut,
)
from knowledgebeast_service.components import Components
from knowledgebeast_service.ingest.prepare import IncomingDocument
from knowledgebeast_service.search.pipeline import Answer, SearchRequest
from knowledgebeast_service.storage import documents as documents_storage
from knowledgebeast_service.storage import queries
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.records import ProjectCounts, TaskProgress

router = APIRouter(
    prefix="/api/v1",
    responses={code: {"model": ProblemOut} for code in (404, 413, 422, 429, 503)},
)


def get_components(request: Request) -> Components:
    return components_of(request.scope)


Parts = Annotated[Components, Depends(get_components)]
ProjectPath = Annotated[str, Path(pattern=PROJECT_PATTERN)]
DocumentPath = Annotated[DocumentId, Path()]
Limit = Annotated[int, Query(ge=1, le=1000)]
Cursor = Annotated[str, Query(max_length=256, description="`next_cursor` of the page before")]


@router.post("/ingest", status_code=status.HTTP_202_ACCEPTED)
async def ingest(body: IngestIn, parts: Parts, *, wait: bool = False) -> IngestOut:
    """Store documents. They are durable and found by keyword at once, by vector soon after (`wait=true`: before the
    answer, for up to 30 s). A document replaces the one with the same id; the project is made when absent.
    """
    documents = [IncomingDocument(one.text, one.title, one.id, one.metadata) for one in body.documents]
    receipt = await parts.ingestion.accept(body.project, documents, wait=wait)
    return IngestOut(
        status=receipt.status,
        reason=receipt.reason,
        task_id=receipt.task_id,
        seq=receipt.seq,
        results=[DocumentOut(id=one.id, status=one.status, error=one.error) for one in receipt.results],
    )


@router.get("/query/{project}", response_model=QueryOut)
async def query(
    request: Request,
    parts: Parts,
    project: ProjectPath,
    q: Annotated[str, Query()],
    top_k: Annotated[int, Query()] = 10,
    offset: Annotated[int, Query()] = 0,
    mode: Annotated[str, Query(description="hybrid, keyword or vector")] = "hybrid",
    min_seq: Annotated[int, Query()] = 0,
) -> Response:
    """Search a project. Without Chroma or the model the answer comes from keywords alone, with `degraded_mode`."""
    fields = {"query": q, "top_k": top_k, "offset": offset, "mode": mode, "min_seq": min_seq}
    try:
        body = QueryIn.model_validate(fields)
    except ValidationError as error:
        raise RequestValidationError([{**one, "loc": ("query", *one["loc"])} for one in error.errors()]) from error
    return await _answer(request, parts, project, body)


@router.post("/query/{project}", response_model=QueryOut)
async def query_by_body(request: Request, parts: Parts, project: ProjectPath, body: QueryIn) -> Response:
    """The same with a body, and with `filter`."""
    return await _answer(request, parts, project, body)


async def _answer(request: Request, parts: Components, project: str, body: QueryIn) -> Response:
    started = time.perf_counter()
    asked = SearchRequest(project, body.query, body.mode, body.top_k, body.offset, body.min_seq, body.filter)
    parts.diversity.record(f"{project}\0{asked.normalised_query}")
    if parts.limits().log_queries:
        request.state.query = body.query
    answer = await parts.pipeline.answer(asked)
    seconds = time.perf_counter() - started
    cache = "hit" if answer.is_cached else "miss"
    parts.metrics.observe("kb_query_duration_seconds", seconds, mode=body.mode, cache=cache)
    request.state.query_duration_ms = round(seconds * 1000, 3)
    request.state.cache_hit = answer.is_cached
    # Bytes, not a model: validating an answer that was just built costs more than finding it.
    return Response(orjson.dumps(_content(project, body, answer, seconds)), media_type="application/json")


def _content(project: str, body: QueryIn, answer: Answer, seconds: float) -> dict[str, object]:
    return {
        "project": project,
        "query": body.query,
        "mode": body.mode,
        "degraded_mode": answer.degraded_reason is not None,
        "degraded_reason": answer.degraded_reason,
        "cache_hit": answer.is_cached,
        "took_ms": round(seconds * 1000, 3),
        "seq": answer.seq,
        "results": [
            {
                "document_id": result.row.document_id,
                "chunk_id": result.row.chunk_id,
                "score": result.score,
                "title": result.row.title,
                "text": result.row.text,
                "metadata": result.row.metadata,
            }
            for result in answer.results
        ],
        "next_offset": answer.next_offset,
    }


@router.get("/projects")
async def list_projects(parts: Parts, limit: Limit = 100, cursor: Cursor = "") -> ProjectsOut:
    """Projects by name."""
    found = await parts.database.read(lambda connection: queries.list_projects(connection, cursor, limit))
    return ProjectsOut(
        projects=[_project(one) for one in found],
        next_cursor=found[-1].project.name if len(found) == limit else None,
    )


@router.post("/projects", status_code=status.HTTP_201_CREATED)
async def create_project(body: ProjectIn, parts: Parts, response: Response) -> ProjectOut:
    """Make a project; 200 when it is already there."""
    project, is_new = await parts.database.write(
        lambda connection: documents_storage.ensure_project(connection, body.name)
    )
    if not is_new:
        response.status_code = status.HTTP_200_OK
    await parts.replica.catch_up()
    return _project(await parts.database.read(lambda connection: queries.count_project(connection, project)))


@router.get("/projects/{project}")
async def get_project(parts: Parts, project: ProjectPath) -> ProjectOut:
    """A project with its counts."""

    def read(connection: Connection) -> ProjectCounts:
        return queries.count_project(connection, documents_storage.require_project(connection, project))

    return _project(await parts.database.read(read))


@router.delete("/projects/{project}")
async def delete_project(parts: Parts, project: ProjectPath) -> DeletedOut:
    """Delete a project with all its documents."""
    await parts.database.write(lambda connection: documents_storage.delete_project(connection, project))
    await parts.replica.catch_up()
    parts.worker.wake()
    return DeletedOut(deleted=project)


@router.get("/projects/{project}/documents")
async def list_documents(parts: Parts, project: ProjectPath, limit: Limit = 100, cursor: Cursor = "") -> DocumentsOut:
    """Documents by id, without their text."""
    found = await parts.database.read(lambda connection: queries.list_documents(connection, project, cursor, limit))
    return DocumentsOut(
        documents=[DocumentSummary(id=id_, title=title, metadata=dict(metadata)) for id_, title, metadata in found],
        next_cursor=found[-1][0] if len(found) == limit else None,
    )


@router.get("/projects/{project}/documents/{document_id:path}")
async def get_document(parts: Parts, project: ProjectPath, document_id: DocumentPath) -> DocumentDetail:
    """A document as it was sent; `indexed` tells whether it is searchable by vector."""
    found = await parts.database.read(lambda connection: queries.get_document(connection, project, document_id))
    return DocumentDetail(
        id=found.external_id,
        title=found.title,
        metadata=dict(found.metadata),
        text=found.text,
        created_at=found.created_at,
        indexed=found.is_indexed,
    )


@router.delete("/projects/{project}/documents/{document_id:path}")
async def delete_document(parts: Parts, project: ProjectPath, document_id: DocumentPath) -> DeletedOut:
    """Delete a document: no answer given after this one shows it."""
    seq = await parts.database.write(
        lambda connection: documents_storage.delete_document(connection, project, document_id)
    )
    await parts.replica.catch_up()
    parts.worker.wake()
    return DeletedOut(deleted=document_id, seq=seq)


@router.get("/tasks/{task_id}")
async def get_task(parts: Parts, task_id: Annotated[str, Path(pattern=r"^[0-9a-f]{16}$")]) -> TaskOut:
    """Progress of an ingest request; tasks are kept for 7 days."""
    progress = await parts.database.read(lambda connection: queries.get_task(connection, task_id))
    return _task(progress)


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


def _project(found: ProjectCounts) -> ProjectOut:
    return ProjectOut(
        name=found.project.name,
        seq=found.project.seq,
        documents=found.documents,
        chunks=found.chunks,
        created_at=found.project.created_at,
    )
