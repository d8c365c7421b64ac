"""Gauges that are computed when they are read, so that they are never stale."""

import os

from knowledgebeast_service import __version__
from knowledgebeast_service.api.status import component_states
from knowledgebeast_service.components import Components
from knowledgebeast_service.errors import DatabaseError
from knowledgebeast_service.storage import queries
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.ingest_queue import newest_model_hash
from knowledgebeast_service.telemetry.limits import anonymous_memory_bytes, memory_limit_bytes

PROJECT_SERIES = 200


async def refresh_gauges(parts: Components) -> None:
    """Bring every computed gauge up to date. A database that refuses leaves its gauges as they were."""
    metrics = parts.metrics
    for name, state in (await component_states(parts)).items():
        metrics.set("kb_component_up", 1 if state.status == "up" else 0, component=name)
    metrics.set("kb_degraded_mode", 0 if parts.pipeline.degraded_reason is None else 1)
    metrics.set("kb_chroma_breaker_state", parts.breaker.state.value)
    metrics.set("kb_query_diversity_ratio", parts.diversity.ratio)
    for cache, stats in (("query", parts.answers.stats()), ("embedding", parts.embeddings.stats())):
        metrics.set(f"kb_{cache}_cache_hit_ratio", stats.hit_ratio)
        metrics.set("kb_cache_bytes", stats.bytes, cache=cache)
    metrics.set("kb_memory_anon_bytes", anonymous_memory_bytes())
    metrics.set("kb_memory_limit_bytes", memory_limit_bytes())
    volume = os.statvfs(parts.settings.data_dir)
    metrics.set("kb_volume_capacity_bytes", volume.f_blocks * volume.f_frsize, volume="data")
    metrics.set("kb_volume_available_bytes", volume.f_bavail * volume.f_frsize, volume="data")
    manifest = parts.model.manifest
    model_hash = manifest.model_hash if manifest else ""
    build = (__version__, model_hash, str(parts.database.schema_version))
    metrics.replace("kb_build_info", {build: 1})
    try:
        await parts.database.read(lambda connection: _from_database(connection, parts, model_hash))
    except DatabaseError:
        return  # counted in kb_database_errors_total, and kb_component_up{component="database"} is 0


def _from_database(connection: Connection, parts: Components, model_hash: str) -> None:
    metrics = parts.metrics
    metrics.set("kb_ingest_queue_documents", queries.queue_length(connection))
    metrics.set("kb_index_lag", max(0, queries.change_head(connection) - parts.replica.snapshot.seq))
    stored_hash = model_hash or newest_model_hash(connection) or ""
    counts = queries.vectors_by_project(connection, stored_hash, PROJECT_SERIES)
    metrics.replace("kb_collection_vectors", {(name,): count for name, count in counts})
