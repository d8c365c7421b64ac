"""/api/v1/query: the hot path.

These routes take the request as it is: FastAPI's dependencies and validation would cost more than a cached answer.
What they accept is declared in `schemas`, which checks the requests here and describes them in the OpenAPI document.
"""

import asyncio
import re
import time
from collections.abc import Callable, Coroutine
from typing import Any, cast

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import ValidationError

from knowledgebeast_service.api.middleware import components_of
from knowledgebeast_service.api.patterns import PROJECT_PATTERN
from knowledgebeast_service.api.problems import problem_for
from knowledgebeast_service.api.query_documentation import BATCH_BODY, GET_PARAMETERS, PROJECT_PARAMETER, QUERY_BODY
from knowledgebeast_service.api.schemas import BatchIn, ProblemOut, QueryIn, QueryOut
from knowledgebeast_service.components import Components
from knowledgebeast_service.search.answer import Answer
from knowledgebeast_service.search.pipeline import SearchRequest

BATCH_AT_ONCE = 4  # queries of one batch under way at the same time: other clients want to be served too
PROJECT = re.compile(PROJECT_PATTERN)
JSON = "application/json"


class BareRoute(APIRoute):
    """Calls the endpoint with the request; whatever else the route is given is documentation."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        return cast("Callable[[Request], Coroutine[Any, Any, Response]]", self.endpoint)


router = APIRouter(
    prefix="/api/v1",
    route_class=BareRoute,
    responses={code: {"model": ProblemOut} for code in (400, 404, 413, 422, 429, 503)},
)


@router.get(
    "/query/{project}", response_model=QueryOut, openapi_extra={"parameters": [PROJECT_PARAMETER, *GET_PARAMETERS]}
)
async def query(request: Request) -> Response:
    """Search a project. Without Chroma or the model the answer comes from keywords alone, with `degraded_mode`."""
    given = dict(request.query_params)
    fields = {name: given[name] for name in ("top_k", "offset", "mode", "min_seq", "highlight") if name in given}
    if "q" in given:
        fields["query"] = given["q"]
    try:
        asked = QueryIn.model_validate_strings(fields)
    except ValidationError as error:
        raise _invalid(error, "query", query="q") from error
    return Response(await _answer(request, components_of(request.scope), _project(request), asked), media_type=JSON)


@router.post(
    "/query/{project}",
    response_model=QueryOut,
    openapi_extra={"parameters": [PROJECT_PARAMETER], "requestBody": QUERY_BODY},
)
async def query_by_body(request: Request) -> Response:
    """The same with a body, and with `filter`."""
    project = _project(request)
    try:
        asked = QueryIn.model_validate_json(await request.body())
    except ValidationError as error:
        raise _invalid(error, "body") from error
    return Response(await _answer(request, components_of(request.scope), project, asked), media_type=JSON)


@router.post(
    "/query/{project}/batch",
    response_model=list[QueryOut | ProblemOut],
    openapi_extra={"parameters": [PROJECT_PARAMETER], "requestBody": BATCH_BODY},
)
async def query_batch(request: Request) -> Response:
    """Several queries at once. One entry for each, in their order: its answer, or the problem that it met; one that
    fails leaves the others alone.
    """
    project, parts = _project(request), components_of(request.scope)
    try:
        batch = BatchIn.model_validate_json(await request.body())
    except ValidationError as error:
        raise _invalid(error, "body") from error
    places = asyncio.Semaphore(BATCH_AT_ONCE)

    async def entry(number: int, fields: dict[str, Any]) -> bytes:
        async with places:
            try:
                return await _answer(request, parts, project, QueryIn.model_validate(fields))
            except ValidationError as error:
                return bytes(problem_for(request, _invalid(error, "body", "queries", number)).body)
            except Exception as error:
                return bytes(problem_for(request, error).body)

    entries = await asyncio.gather(*(entry(number, fields) for number, fields in enumerate(batch.queries)))
    return Response(b"[" + b",".join(entries) + b"]", media_type=JSON)


async def _answer(request: Request, parts: Components, project: str, asked: QueryIn) -> bytes:
    started = time.perf_counter()
    search = SearchRequest(
        project, asked.query, asked.mode, asked.top_k, asked.offset, asked.min_seq, asked.filter, asked.highlight
    )
    parts.diversity.record(f"{project}\0{search.normalised_query}")
    if parts.limits().log_queries:
        request.state.query = asked.query
    answer = await parts.pipeline.answer(search)
    seconds = time.perf_counter() - started
    parts.top_queries.record(search)
    parts.latency.record(seconds, time.monotonic())
    parts.metrics.observe(
        "kb_query_duration_seconds", seconds, mode=asked.mode, cache="hit" if answer.is_cached else "miss"
    )
    request.state.query_duration_ms = round(seconds * 1000, 3)
    request.state.cache_hit = answer.is_cached
    return _body(project, asked, answer, seconds)


def _body(project: str, asked: QueryIn, answer: Answer, seconds: float) -> bytes:
    """The results are JSON already; the rest is written around them."""
    head = {
        "project": project,
        "query": asked.query,
        "mode": asked.mode,
        "degraded_mode": answer.degraded_reason is not None,
        "degraded_reason": answer.degraded_reason,
        "cache_hit": answer.is_cached,
        "took_ms": round(seconds * 1000, 3),
        "seq": answer.seq,
        "next_offset": answer.next_offset,
    }
    return b'%s,"results":%s}' % (orjson.dumps(head)[:-1], answer.results_json)


def _project(request: Request) -> str:
    project = str(request.path_params["project"])
    if not PROJECT.fullmatch(project):
        message = f"must match {PROJECT_PATTERN}"
        raise RequestValidationError([{"type": "string_pattern_mismatch", "loc": ("path", "project"), "msg": message}])
    return project


def _invalid(error: ValidationError, *place: str | int, **names: str) -> RequestValidationError:
    """The error as FastAPI would raise it; `names` are what the fields are called there."""
    return RequestValidationError(
        [
            {**one, "loc": (*place, *(names.get(str(part), part) for part in one["loc"]))}
            for one in error.errors(include_url=False)
        ]
    )
