"""What works and what does not: one view for /health, /metrics and /api/v1/stats."""

from dataclasses import dataclass, field

from knowledgebeast_service.components import Components, Status
from knowledgebeast_service.errors import DatabaseError
from knowledgebeast_service.storage.queries import queue_length


@dataclass(frozen=True)
class ComponentState:
    """Status of a component with what a person wants to know next."""

    status: Status
    details: dict[str, object] = field(default_factory=dict[str, object])


async def component_states(parts: Components) -> dict[str, ComponentState]:
    """Every component by name; the names are those of kb_component_up."""
    documents = await _queue_length(parts)
    database_error = documents if isinstance(documents, str) else None
    return {
        "chromadb": _chroma(parts),
        "embedding_model": _model(parts),
        "database": ComponentState("down", {"error": database_error}) if database_error else ComponentState("up"),
        "keyword_index": ComponentState("up" if parts.replica.is_loaded else "down"),
        "ingest_queue": _queue(parts, documents),
    }


def overall(states: dict[str, ComponentState]) -> str:
    """`down` = cannot answer; `degraded` = answers with less."""
    if states["database"].status == "down" or states["keyword_index"].status == "down":
        return "down"
    return "ok" if all(state.status == "up" for state in states.values()) else "degraded"


def _chroma(parts: Components) -> ComponentState:
    last = parts.vector_health.last_round
    if last is None:
        return ComponentState("unknown")
    details: dict[str, object] = {"breaker": parts.breaker.state.name.lower(), "canary_success_ratio": last.ratio}
    if parts.breaker.is_closed:
        return ComponentState("up", details | {"latency_ms": round(parts.vector_health.last_round_seconds * 1000, 1)})
    return ComponentState("down", details | {"error": parts.breaker.reason})


def _model(parts: Components) -> ComponentState:
    details: dict[str, object] = {"device": parts.model.device, "backend": parts.model.backend}
    manifest = parts.model.manifest
    if manifest is None:
        return ComponentState("down", {"model": None, **details, "error": parts.model.error})
    return ComponentState("up", {"model": manifest.model, "model_hash": manifest.model_hash, **details})


def _queue(parts: Components, documents: int | str) -> ComponentState:
    if isinstance(documents, str):
        return ComponentState("unknown", {"error": documents})
    blocked = parts.worker.blocked_by() if documents else None
    details: dict[str, object] = {"documents": documents}
    return ComponentState("down", details | {"error": blocked}) if blocked else ComponentState("up", details)


async def _queue_length(parts: Components) -> int | str:
    try:
        parts.database.require_same_file()
        return await parts.database.read(queue_length)
    except DatabaseError as error:
        return str(error)
