"""/api/v1: projects, documents."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response, status

from knowledgebeast_service.api.middleware import components_of
from knowledgebeast_service.api.patterns import PROJECT_PATTERN
from knowledgebeast_service.api.schemas import (
    DeletedOut,
    DocumentDetail,
    DocumentId,
    DocumentsOut,
    DocumentSummary,
    ProblemOut,
    ProjectIn,
    ProjectOut,
    ProjectsOut,
)
from knowledgebeast_service.api.visibility import Caller, list_visible, require_writable
from knowledgebeast_service.components import Components
from knowledgebeast_service.storage import documents as documents_storage
from knowledgebeast_service.storage import queries
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.records import ProjectCounts

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


@router.get("/projects")
async def list_projects(parts: Parts, caller: Caller, limit: Limit = 100, cursor: Cursor = "") -> ProjectsOut:
    """Projects by name."""
    found = await parts.database.read(lambda connection: list_visible(connection, caller, cursor, limit))
    return ProjectsOut(
        projects=[_project(one) for one in found],
        next_cursor=found[-1].project.name if len(found) == limit else None,
    )


@router.post("/projects", status_code=status.HTTP_201_CREATED)
async def create_project(body: ProjectIn, parts: Parts, caller: Caller, response: Response) -> ProjectOut:
    """Make a project; 200 when it is already there."""
    require_writable(caller, body.name)
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
    seq = await parts.database.write(lambda connection: documents_storage.delete_project(connection, project))
    await parts.replica.catch_up()
    parts.worker.wake()
    return DeletedOut(deleted=project, seq=seq)


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


def _project(found: ProjectCounts) -> ProjectOut:
    return ProjectOut(
        name=found.project.name,
        seq=found.project.seq,
        documents=found.documents,
        chunks=found.chunks,
        created_at=found.project.created_at,
    )
