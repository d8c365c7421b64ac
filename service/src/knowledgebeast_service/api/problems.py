"""Errors as application/problem+json (RFC 9457). Every error answer of the service is made here."""

import json
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from knowledgebeast_service.errors import (
    DatabaseError,
    InvalidInputError,
    KnowledgeBeastError,
    NotFoundError,
    UnavailableError,
    VolumeFullError,
)
from knowledgebeast_service.ingest.accept import AllRejectedError

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 1
SHOWN_ERRORS = 20
MAKE_ROOM = "Delete documents, run `knowledgebeast maintain clean`, or enlarge the volume; searches go on."


def problem(
    status: int,
    detail: str,
    *,
    path: str,
    headers: Mapping[str, str] | None = None,
    **extensions: object,
) -> Response:
    """An error answer; `extensions` become further members (RFC 9457, section 3.2)."""
    content = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    # The json module, because a message may quote text of the caller that orjson refuses (half a surrogate pair).
    body = json.dumps(content | {"instance": path} | extensions, default=str)
    return Response(body, status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def install_handlers(app: FastAPI) -> None:
    """Translate every exception that leaves a route."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(KnowledgeBeastError, _known)
    app.add_exception_handler(Exception, _unexpected)


def problem_for(request: Request, error: Exception) -> Response:
    """The answer to an exception, for a route that goes on after it."""
    match error:
        case RequestValidationError():
            return _invalid(request, error)
        case KnowledgeBeastError():
            return _known(request, error)
        case _:
            return _unexpected(request, error)


def _invalid(request: Request, error: Exception) -> Response:
    found = cast("Sequence[dict[str, object]]", cast("RequestValidationError", error).errors())
    errors = [
        {"field": ".".join(str(part) for part in cast("tuple[object, ...]", one["loc"])), "message": one["msg"]}
        for one in found[:SHOWN_ERRORS]
    ]
    is_syntax = any(one["type"] == "json_invalid" for one in found)
    status = HTTPStatus.BAD_REQUEST if is_syntax else HTTPStatus.UNPROCESSABLE_ENTITY
    detail = "; ".join(f"{one['field']}: {one['message']}" for one in errors)
    _note(request, error, detail)
    return problem(status, detail, path=request.url.path, errors=errors)


def _http(request: Request, error: Exception) -> Response:
    known = cast("HTTPException", error)
    _note(request, error, str(known.detail))
    return problem(known.status_code, str(known.detail), path=request.url.path, headers=known.headers)


def _known(request: Request, error: Exception) -> Response:
    _note(request, error, str(error))
    path = request.url.path
    match error:
        case NotFoundError():
            return problem(HTTPStatus.NOT_FOUND, str(error), path=path)
        case AllRejectedError():
            results = [{"id": one.id, "status": one.status, "error": one.error} for one in error.results]
            return problem(HTTPStatus.UNPROCESSABLE_ENTITY, str(error), path=path, results=results)
        case InvalidInputError():
            return problem(HTTPStatus.UNPROCESSABLE_ENTITY, str(error), path=path)
        case VolumeFullError():
            return problem(HTTPStatus.INSUFFICIENT_STORAGE, str(error), path=path)
        case DatabaseError(kind="full"):
            return problem(HTTPStatus.INSUFFICIENT_STORAGE, f"{error}. {MAKE_ROOM}", path=path)
        case UnavailableError():
            retry = {"retry-after": str(RETRY_AFTER_SECONDS)}
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error), path=path, headers=retry)
        case _:
            return _unexpected(request, error)


def _unexpected(request: Request, error: Exception) -> Response:
    request_id = str(request.state.request_id)
    if isinstance(error, MemoryError):
        request.app.state.components.metrics.inc("kb_memory_errors_total")
    log.error("%s %s failed", request.method, request.url.path, exc_info=error, extra={"request_id": request_id})
    _note(request, error, str(error))
    detail = f"The service failed in a way that it does not know. The log has more under request_id {request_id}."
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, detail, path=request.url.path, request_id=request_id)


def _note(request: Request, error: Exception, message: str) -> None:
    """For the access log."""
    request.state.error_type = type(error).__name__
    request.state.error = message
