"""Answers of /health, the probes and /api/v1/stats, as in the OpenAPI document."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ComponentOut(BaseModel):
    """A component's status, and beside it what a person wants to know next."""

    model_config = ConfigDict(extra="allow")

    status: Literal["up", "down", "unknown"]


class HealthOut(BaseModel):
    """`degraded` = answers with less; `down` = cannot answer."""

    status: Literal["ok", "degraded", "down"]
    components: dict[str, ComponentOut]


class ProbeOut(BaseModel):
    """`reason` says why a probe failed."""

    status: Literal["ok", "failed"]
    reason: str | None = None


class CacheOut(BaseModel):
    size: int
    capacity: int
    bytes: int
    hits: int
    misses: int
    hit_ratio: float
    evictions: int
    ghost_hits: int


class CachesOut(BaseModel):
    query_cache: CacheOut
    embedding_cache: CacheOut


class QueriesOut(BaseModel):
    """Since the start of this process; `diversity` over the last 1,000."""

    total: int
    unique: int
    diversity: float


class QueueOut(BaseModel):
    documents: int


class ProjectStatsOut(BaseModel):
    documents: int
    chunks: int
    seq: int


class StatsOut(BaseModel):
    """Caches and queries of this replica; queue and projects as far as the caller sees them."""

    cache: CachesOut
    cache_memory_mb: float
    queries: QueriesOut
    ingest_queue: QueueOut
    projects: dict[str, ProjectStatsOut] = Field(description="The first 200 by name.")
