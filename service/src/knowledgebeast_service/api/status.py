"""What works and what does not: one view for /health, /metrics and /api/v1/stats."""

from dataclasses import dataclass, field

from knowledgebeast_service.components import Components, Status
from knowledgebeast_service.errors import DatabaseError
from knowledgebeast_service.shipping.shipper import Shipper
from knowledgebeast_service.storage.queries import queue_length


@dataclass(frozen=True)
class ComponentState:
    """Status of a component with what a person wants to know next."""

    status: Status
    details: dict[str, object] = field(default_factory=dict[str, object])
    is_partial: bool = False  # up, but not for everyone


async def component_states(parts: Components) -> dict[str, ComponentState]:
    """Every component by name; the names are those of kb_component_up."""
    documents = await _queue_length(parts)
    states = {
        "chromadb": _chroma(parts),
        "embedding_model": _model(parts),
        "database": _database(parts, documents),
        "keyword_index": ComponentState("up" if parts.replica.is_loaded else "down"),
        "ingest_queue": _queue(parts, documents),
    }
    return states if parts.shipper is None else states | {"shipping": await _shipping(parts, parts.shipper)}


def overall(states: dict[str, ComponentState]) -> str:
    """`down` = cannot answer; `degraded` = answers with less: a damaged database may still be read."""
    database = states["database"]
    is_readable = database.status == "up" or database.details.get("readable") is True
    if not is_readable or states["keyword_index"].status == "down":
        return "down"
    return "ok" if all(state.status == "up" and not state.is_partial for state in states.values()) else "degraded"


def _database(parts: Components, documents: int | str) -> ComponentState:
    damage = parts.database.damage
    is_readable = not isinstance(documents, str)
    if not damage.is_good:
        reason = "wrong-volume" if parts.database.is_of_another else "corrupt"
        details: dict[str, object] = {"reason": reason, "damage": damage.damage, "error": str(damage)}
        return ComponentState("down", details | {"readable": is_readable})
    return ComponentState("up") if is_readable else ComponentState("down", {"error": documents})


def _chroma(parts: Components) -> ComponentState:
    last = parts.vector_health.last_round
    if last is None:
        return ComponentState("unknown")
    details: dict[str, object] = {"breaker": parts.breaker.state.name.lower(), "canary_success_ratio": last.ratio}
    failing = len(parts.collection_health.failing)
    if parts.breaker.is_closed:
        details["latency_ms"] = round(parts.vector_health.last_round_seconds * 1000, 1)
        if failing:
            details["reason"] = f"{failing} of the projects are answered without vectors; a query tells why"
        return ComponentState("up", details, is_partial=failing > 0)
    return ComponentState("down", details | {"error": parts.breaker.reason})


def _model(parts: Components) -> ComponentState:
    details: dict[str, object] = {"device": parts.model.device, "backend": parts.model.backend}
    if parts.model.note:
        details["reason"] = parts.model.note
    manifest = parts.model.manifest
    if manifest is None:
        return ComponentState("down", {"model": None, **details, "error": parts.model.error})
    return ComponentState("up", {"model": manifest.model, "model_hash": manifest.model_hash, **details})


def _queue(parts: Components, documents: int | str) -> ComponentState:
    if isinstance(documents, str):
        return ComponentState("unknown", {"error": documents})
    blocked = parts.worker.blocked_by() if documents else None
    details: dict[str, object] = {"documents": documents}
    return ComponentState("down", details | {"error": blocked.detail}) if blocked else ComponentState("up", details)


async def _shipping(parts: Components, shipper: Shipper) -> ComponentState:
    try:
        state = await parts.database.read(shipper.state)
    except DatabaseError as error:
        return ComponentState("unknown", {"error": str(error)})
    details: dict[str, object] = {
        "lag_seconds": round(state.lag_seconds, 3),
        "shipped_seq": state.shipped_seq,
        "is_shipper": state.is_shipper,
    }
    if state.is_up:
        return ComponentState("up", details)
    return ComponentState("down", details | {"error": state.error or "no replica ships the changes"})


async def _queue_length(parts: Components) -> int | str:
    try:
        if parts.database.damage.damage != "missing":
            parts.database.require_same_file()
        return await parts.database.read(queue_length)
    except DatabaseError as error:
        return str(error)
