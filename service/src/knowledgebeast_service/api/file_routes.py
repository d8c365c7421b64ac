"""POST /api/v1/projects/{project}/files: text, Markdown, HTML and PDF as they are."""

from contextlib import ExitStack, closing
from typing import Annotated

from fastapi import APIRouter, Query, Request, status
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from knowledgebeast_service.api.ingest_routes import receipt_out
from knowledgebeast_service.api.middleware import CONTENT_TOO_LARGE
from knowledgebeast_service.api.routes import Parts, ProjectPath
from knowledgebeast_service.api.schemas import DocumentId, IngestOut, Metadata, ProblemOut
from knowledgebeast_service.ingest.files.documents import documents_of
from knowledgebeast_service.ingest.files.upload import (
    BadUploadError,
    Upload,
    UploadTooLargeError,
    receive_upload,
)

router = APIRouter(
    prefix="/api/v1",
    responses={code: {"model": ProblemOut} for code in (400, 413, 415, 422, 429, 503, 507)},
)

MIB = 1024 * 1024
BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["files"],
                "properties": {
                    "files": {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}},
                    "metadata": {"type": "string", "description": "JSON object, kept with each of the documents."},
                },
            },
        }
    },
}
_METADATA = TypeAdapter[Metadata](Metadata)
_ID: TypeAdapter[str] = TypeAdapter(DocumentId)


@router.post("/projects/{project}/files", status_code=status.HTTP_202_ACCEPTED, openapi_extra={"requestBody": BODY})
async def upload_files(
    request: Request,
    parts: Parts,
    project: ProjectPath,
    *,
    wait: Annotated[bool, Query(description="Answer when they are searchable by vector, or after 30 s.")] = False,
) -> IngestOut:
    """Store files: UTF-8 text, Markdown, HTML, PDF, told apart by their content. A file's name is its document's id.

    All files of a request together may have MAX_DOCUMENT_SIZE_MB. A file that cannot be read is rejected alone.
    """
    parts.ingestion.require_room()  # before megabytes are received
    with (
        closing(await _receive(request, int(parts.limits().max_document_size_mb * MIB))) as upload,
        ExitStack() as open_files,
    ):
        metadata = _metadata(upload)
        documents = await documents_of(upload, parts.file_parser, metadata, open_files)
        return receipt_out(await parts.ingestion.accept(project, documents, wait=wait))


async def _receive(request: Request, max_bytes: int) -> Upload:
    """The body on disk, with at least one file of a known kind."""
    try:
        upload = await receive_upload(request.headers.get("content-type", ""), request.stream(), max_bytes)
    except UploadTooLargeError as error:
        raise HTTPException(CONTENT_TOO_LARGE, str(error)) from error
    except (BadUploadError, ClientDisconnect) as error:
        raise HTTPException(status.HTTP_400_BAD_REQUEST, str(error)) from error
    if upload.files and not all(one.error for one in upload.files):
        for one in upload.files:
            one.error = one.error or _name_problem(one.name)
        return upload
    upload.close()
    if upload.files:
        reasons = "; ".join(f"{one.name}: {one.error}" for one in upload.files[:10])
        raise HTTPException(status.HTTP_415_UNSUPPORTED_MEDIA_TYPE, f"No file is of a known kind. {reasons}")
    raise HTTPException(status.HTTP_400_BAD_REQUEST, "The form has no file: send at least one part with a file name.")


def _name_problem(name: str) -> str | None:
    try:
        _ID.validate_python(name)
    except ValidationError:
        return "its name must have 1 to 256 characters, none of them a control character: it becomes the document's id"
    return None


def _metadata(upload: Upload) -> dict[str, object]:
    try:
        return dict(_METADATA.validate_json(upload.fields.get("metadata", "{}")))
    except ValidationError as error:
        problems = [{**one, "loc": ("body", "metadata", *one["loc"])} for one in error.errors()]
        raise RequestValidationError(problems) from error
