"""/health, /livez, /readyz, /probe, /metrics and /api/v1/stats."""

import logging
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from knowledgebeast_service.api.gauges import refresh_gauges
from knowledgebeast_service.api.operation_schemas import HealthOut, ProbeOut, StatsOut
from knowledgebeast_service.api.routes import Parts
from knowledgebeast_service.api.status import component_states, overall
from knowledgebeast_service.api.visibility import Caller, list_visible, visible_queue_length
from knowledgebeast_service.components import Components
from knowledgebeast_service.errors import DatabaseError, DatabaseReplacedError, KnowledgeBeastError
from knowledgebeast_service.search.cache import CacheStats
from knowledgebeast_service.storage import queries

log = logging.getLogger(__name__)

router = APIRouter()

FAILED_PROBE: dict[int | str, dict[str, Any]] = {503: {"model": ProbeOut}}
METRICS_MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MIB = 1024 * 1024
STATS_PROJECTS = 200


@router.get("/health", response_model=HealthOut, responses={503: {"model": HealthOut}})
async def health(parts: Parts) -> Response:
    """The state of every part; 200 while queries are answered, even if degraded."""
    states = await component_states(parts)
    status = overall(states)
    components = {name: {"status": state.status, **state.details} for name, state in states.items()}
    code = HTTPStatus.SERVICE_UNAVAILABLE if status == "down" else HTTPStatus.OK
    return _json({"status": status, "components": components}, code)


@router.get("/livez", response_model=ProbeOut, responses=FAILED_PROBE)
async def livez(parts: Parts) -> Response:
    """Fails only for what a restart cures: a replaced database file, a background task that broke."""
    reason = parts.background.broken
    try:
        # Of a lost or damaged file a restart brings nothing back; what is open may still answer.
        if parts.database.damage.is_good and parts.database.path.exists():
            parts.database.require_same_file()
    except DatabaseReplacedError as error:
        reason = str(error)
    return _probe(reason)


@router.get("/readyz", response_model=ProbeOut, responses=FAILED_PROBE)
async def readyz(parts: Parts) -> Response:
    """Needs the database and the keyword index, not Chroma: degraded answers are answers. The model only while another
    process on this volume has it: a rollout that would lose it stops at its first pod.
    """
    return _probe(await _not_ready_because(parts))


@router.get("/probe", response_model=ProbeOut, responses=FAILED_PROBE)
async def probe(parts: Parts) -> Response:
    """Searches one of the projects as a user would, from no cache, and says only whether that worked. Asked more than
    once a second it tells the last result again.
    """
    try:
        await parts.probe.run()
    except KnowledgeBeastError as error:
        log.warning("a synthetic query failed: %s", error)
        return _probe("a search fails")
    return _probe(None)


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(parts: Parts) -> Response:
    """Prometheus text format."""
    await refresh_gauges(parts)
    return Response(parts.metrics.render(), media_type=METRICS_MEDIA_TYPE)


@router.get("/api/v1/stats", response_model=StatsOut)
async def stats(parts: Parts, caller: Caller) -> Response:
    """Caches, queries, queue, and counts per project (the first 200 by name)."""
    answers, embeddings = parts.answers.stats(), parts.embeddings.stats()
    projects = await parts.database.read(lambda connection: list_visible(connection, caller, "", STATS_PROJECTS))
    queued = await parts.database.read(lambda connection: visible_queue_length(connection, caller))
    return _json(
        {
            "cache": {"query_cache": _cache(answers), "embedding_cache": _cache(embeddings)},
            "cache_memory_mb": round((answers.bytes + embeddings.bytes) / MIB, 3),
            "queries": {
                "total": parts.diversity.total,
                "unique": parts.diversity.unique,
                "diversity": round(parts.diversity.ratio, 4),
            },
            "ingest_queue": {"documents": queued},
            "projects": {
                one.project.name: {"documents": one.documents, "chunks": one.chunks, "seq": one.project.seq}
                for one in projects
            },
        }
    )


def _cache(found: CacheStats) -> dict[str, object]:
    return {
        "size": found.size,
        "capacity": found.capacity,
        "bytes": found.bytes,
        "hits": found.hits,
        "misses": found.misses,
        "hit_ratio": round(found.hit_ratio, 4),
        "evictions": found.evictions,
        "ghost_hits": found.ghost_hits,
    }


async def _not_ready_because(parts: Components) -> str | None:
    if parts.is_draining:
        return "the process is shutting down"
    if parts.database.is_of_another:
        return str(parts.database.damage)
    if not parts.replica.is_loaded:
        return "the keyword index is still loading"
    if parts.model_holders.is_behind():
        return f"other pods have the embedding model and this one does not: {parts.model.error}"
    try:
        if parts.database.path.exists():
            parts.database.require_same_file()
        await parts.database.read(queries.change_head)
    except DatabaseError as error:
        return str(error)
    return None


def _probe(reason: str | None) -> Response:
    if reason is None:
        return _json({"status": "ok"})
    return _json({"status": "failed", "reason": reason}, HTTPStatus.SERVICE_UNAVAILABLE)


def _json(content: dict[str, object], code: int = HTTPStatus.OK) -> Response:
    return Response(orjson.dumps(content), code, media_type="application/json")
