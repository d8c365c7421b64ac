"""The parts of a running service, wired once by `main` and handed to every route."""

from dataclasses import dataclass, field
from typing import Literal

from knowledgebeast_service.background import Background
from knowledgebeast_service.embedding.holders import ModelHolders
from knowledgebeast_service.embedding.model import EmbeddingModel
from knowledgebeast_service.ingest.accept import Ingestion
from knowledgebeast_service.ingest.files.parse import FileParser
from knowledgebeast_service.ingest.worker import IngestWorker
from knowledgebeast_service.live_settings import LiveSettingsSource
from knowledgebeast_service.resilience.breaker import CircuitBreaker
from knowledgebeast_service.search.answer import Answer
from knowledgebeast_service.search.cache import Cache
from knowledgebeast_service.search.collection_health import CollectionHealth
from knowledgebeast_service.search.diversity import QueryDiversity
from knowledgebeast_service.search.pipeline import EmbeddingKey, QueryKey, SearchPipeline
from knowledgebeast_service.search.probe_search import ProbeSearch
from knowledgebeast_service.search.replica import KeywordReplica
from knowledgebeast_service.search.top_queries import TopQueries
from knowledgebeast_service.search.vector_health import VectorHealth
from knowledgebeast_service.search.vector_store import Matrix, VectorStore
from knowledgebeast_service.search.warming import LiveLatency
from knowledgebeast_service.settings import LiveSettings, Settings
from knowledgebeast_service.shipping.shipper import Shipper
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.telemetry.metrics import Metrics
from knowledgebeast_service.telemetry.profiling import MemoryProfiler

Status = Literal["up", "down", "unknown"]


@dataclass
class Components:
    """`is_draining` is set on SIGTERM: still serving, no longer ready."""

    settings: Settings
    live: LiveSettingsSource
    metrics: Metrics
    database: Database
    replica: KeywordReplica
    model: EmbeddingModel
    model_holders: ModelHolders
    store: VectorStore
    breaker: CircuitBreaker
    vector_health: VectorHealth
    collection_health: CollectionHealth
    answers: Cache[QueryKey, Answer]
    embeddings: Cache[EmbeddingKey, Matrix]
    pipeline: SearchPipeline
    probe: ProbeSearch
    worker: IngestWorker
    ingestion: Ingestion
    file_parser: FileParser
    background: Background
    profiler: MemoryProfiler
    top_queries: TopQueries
    shipper: Shipper | None  # None = BACKUP_DIR is not set
    latency: LiveLatency = field(default_factory=LiveLatency)
    diversity: QueryDiversity = field(default_factory=QueryDiversity)
    is_draining: bool = False

    def limits(self) -> LiveSettings:
        """The live settings in force."""
        return self.live.current
