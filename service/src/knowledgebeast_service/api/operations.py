"""/health, /livez, /readyz, /metrics and /api/v1/stats."""

from http import HTTPStatus

import orjson
from fastapi import APIRouter, Response

from knowledgebeast_service.api.gauges import refresh_gauges
from knowledgebeast_service.api.routes import Parts
from knowledgebeast_service.api.status import component_states, overall
from knowledgebeast_service.components import Components
from knowledgebeast_service.errors import DatabaseError, DatabaseReplacedError
from knowledgebeast_service.search.cache import CacheStats
from knowledgebeast_service.storage import queries

router = APIRouter()

METRICS_MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MIB = 1024 * 1024
STATS_PROJECTS = 200


@router.get("/health")
async def health(parts: Parts) -> Response:
    """The state of every part; 200 while queries are answered, even if degraded."""
    states = await component_states(parts)
    status = overall(states)
    components = {name: {"status": state.status, **state.details} for name, state in states.items()}
    code = HTTPStatus.SERVICE_UNAVAILABLE if status == "down" else HTTPStatus.OK
    return _json({"status": status, "components": components}, code)


@router.get("/livez")
async def livez(parts: Parts) -> Response:
    """Fails only for what a restart cures: a replaced database file, a background task that broke."""
    reason = parts.background.broken
    try:
        parts.database.require_same_file()
    except DatabaseReplacedError as error:
        reason = str(error)
    return _probe(reason)


@router.get("/readyz")
async def readyz(parts: Parts) -> Response:
    """Needs the database and the keyword index, not Chroma and not the model: degraded answers are answers."""
    return _probe(await _not_ready_because(parts))


@router.get("/metrics")
async def metrics(parts: Parts) -> Response:
    """Prometheus text format."""
    await refresh_gauges(parts)
    return Response(parts.metrics.render(), media_type=METRICS_MEDIA_TYPE)


@router.get("/api/v1/stats")
async def stats(parts: Parts) -> Response:
    """Caches, queries, queue, and counts per project (the first 200 by name)."""
    answers, embeddings = parts.answers.stats(), parts.embeddings.stats()
    projects = await parts.database.read(lambda connection: queries.list_projects(connection, "", STATS_PROJECTS))
    return _json(
        {
            "cache": {"query_cache": _cache(answers), "embedding_cache": _cache(embeddings)},
            "cache_memory_mb": round((answers.bytes + embeddings.bytes) / MIB, 3),
            "queries": {
                "total": parts.diversity.total,
                "unique": parts.diversity.unique,
                "diversity": round(parts.diversity.ratio, 4),
            },
            "ingest_queue": {"documents": await parts.database.read(queries.queue_length)},
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
    if not parts.replica.is_loaded:
        return "the keyword index is still loading"
    try:
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
