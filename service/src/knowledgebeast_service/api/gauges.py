"""Gauges that are computed when they are read, so that they are never stale."""

import os

from knowledgebeast_service import __version__
from knowledgebeast_service.api.status import component_states
from knowledgebeast_service.components import Components
from knowledgebeast_service.embedding import torch_embedder
from knowledgebeast_service.embedding.place import name_of_model
from knowledgebeast_service.errors import DatabaseError
from knowledgebeast_service.storage import queries
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.dead_letters import count_dead_letters
from knowledgebeast_service.storage.ingest_queue import newest_model_hash
from knowledgebeast_service.telemetry.limits import anonymous_memory_bytes, cpu_limit_cores, memory_limit_bytes
from knowledgebeast_service.telemetry.metrics import MODEL_FAILURES

PROJECT_SERIES = 200


async def refresh_gauges(parts: Components) -> None:
    """Bring every computed gauge up to date. A database that refuses leaves its gauges as they were."""
    metrics = parts.metrics
    for name, state in (await component_states(parts)).items():
        metrics.set("kb_component_up", 1 if state.status == "up" else 0, component=name)
    if parts.shipper is None:
        metrics.set("kb_component_up", 1, component="shipping")  # nothing to do is no fault
    for reason in MODEL_FAILURES:
        metrics.set("kb_embedding_failure", 1 if parts.model.failure == reason else 0, reason=reason)
    metrics.set("kb_embedding_available", 1 if torch_embedder.is_installed() else 0, choice=torch_embedder.BACKEND)
    metrics.set("kb_embedding_available", 1 if torch_embedder.sees_gpu() else 0, choice="cuda")
    is_degraded = parts.pipeline.degraded_reason is not None or bool(parts.collection_health.failing)
    metrics.set("kb_degraded_mode", 1 if is_degraded else 0)
    metrics.set("kb_chroma_breaker_state", parts.breaker.state.value)
    metrics.set("kb_query_diversity_ratio", parts.diversity.ratio)
    metrics.set("kb_index_seq", parts.replica.snapshot.seq)
    for cache, stats in (("query", parts.answers.stats()), ("embedding", parts.embeddings.stats())):
        metrics.set(f"kb_{cache}_cache_hit_ratio", stats.hit_ratio)
        metrics.set("kb_cache_bytes", stats.bytes, cache=cache)
    metrics.set("kb_cpu_limit_cores", cpu_limit_cores())
    metrics.set("kb_memory_anon_bytes", anonymous_memory_bytes())
    metrics.set("kb_memory_limit_bytes", memory_limit_bytes())
    volume = os.statvfs(parts.settings.data_dir)
    metrics.set("kb_volume_capacity_bytes", volume.f_blocks * volume.f_frsize, volume="data")
    metrics.set("kb_volume_available_bytes", volume.f_bavail * volume.f_frsize, volume="data")
    if parts.settings.backup_dir is not None and parts.settings.backup_dir.is_dir():
        volume = os.statvfs(parts.settings.backup_dir)
        metrics.set("kb_volume_capacity_bytes", volume.f_blocks * volume.f_frsize, volume="backups")
        metrics.set("kb_volume_available_bytes", volume.f_bavail * volume.f_frsize, volume="backups")
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
    if parts.shipper is not None:
        shipping = parts.shipper.state(connection)
        metrics.set("kb_shipping_lag_seconds", shipping.lag_seconds)
        metrics.set("kb_shipping_active", 1 if shipping.is_shipper else 0)
        metrics.set("kb_shipping_seq", shipping.shipped_seq)
    metrics.set("kb_ingest_queue_documents", queries.queue_length(connection))
    metrics.set("kb_dead_letters", count_dead_letters(connection))
    metrics.set("kb_index_lag", max(0, queries.change_head(connection) - parts.replica.snapshot.seq))
    index_hash = newest_model_hash(connection) or ""
    stored_hash = model_hash or index_hash
    metrics.replace("kb_index_model_info", {(_name_of(parts, index_hash), index_hash): 1})
    counts = queries.vectors_by_project(connection, stored_hash, PROJECT_SERIES)
    metrics.replace("kb_collection_vectors", {(name,): count for name, count in counts})
    views = parts.replica.snapshot.by_name
    failing = {name for name, view in views.items() if parts.collection_health.reason(view.project.id)}
    named = dict.fromkeys([*failing, *(name for name, _ in counts)])
    metrics.replace("kb_collection_up", {(name,): 0 if name in failing else 1 for name in named})
    damaged = {name for name, view in views.items() if parts.collection_health.refusal_to_write(view.project.id)}
    metrics.replace("kb_collection_damaged", {(name,): 1 if name in damaged else 0 for name in named})


def _name_of(parts: Components, model_hash: str) -> str:
    """The name of a model by its hash: of the one that is loaded, else of those that could be."""
    loaded = parts.model.manifest
    if loaded is not None and loaded.model_hash == model_hash:
        return loaded.model
    return name_of_model((parts.settings.model_dir, parts.settings.model_copy_dir), model_hash) if model_hash else ""
