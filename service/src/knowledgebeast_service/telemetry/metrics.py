"""The metrics contract: every series that the service exports, in one table. The operator's queries read these names.

A series exists from the start with the label values listed here; nothing outside the table can be written, because
`Metrics` looks the name up. No label holds a query, a document or any other unbounded text.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

Kind = Literal["counter", "gauge", "histogram", "process"]
Labels = Mapping[str, str]

COMPONENTS = ("chromadb", "embedding_model", "database", "keyword_index", "ingest_queue", "shipping")
CACHES = ("query", "embedding")
MODES = ("hybrid", "keyword", "vector")
CHROMA_OPERATIONS = (
    "query",
    "upsert",
    "delete",
    "get",
    "get_collection",
    "create_collection",
    "drop_collection",
    "probe",
)
EMBEDDING_KINDS = ("query", "document")
# files: missing or damaged. device: the GPU that was asked for cannot be used. mismatch: another model or dimension
# than was asked for. runtime: the library cannot run the model, or makes wrong vectors of it.
MODEL_FAILURES = ("files", "device", "mismatch", "runtime")
EMBEDDING_CHOICES = ("sentence-transformers", "cuda")
ACCESS_REFUSALS = ("no_key", "unknown_key", "expired_key", "route", "method", "scope", "project")
DATABASE_ERRORS = ("busy", "full", "corrupt", "wrong-volume", "io", "replaced", "other")

QUERY_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0)
CALL_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.5, 10.0)


# A second series for each counter, with the time of its creation, that nothing reads.
disable_created_metrics()


@dataclass(frozen=True)
class Metric:
    """One row of the contract; `values` are the label values that exist before anything has happened."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    values: tuple[tuple[str, ...], ...] = ()
    buckets: tuple[float, ...] = CALL_SECONDS


def _each(*names: str) -> tuple[tuple[str, ...], ...]:
    return tuple((name,) for name in names)


TABLE: tuple[Metric, ...] = (
    Metric("http_requests_total", "counter", "Requests by route template.", ("method", "path", "status")),
    Metric(
        "kb_query_duration_seconds",
        "histogram",
        "Time to answer a query, by mode asked for and result of the cache.",
        ("mode", "cache"),
        tuple((mode, cache) for mode in MODES for cache in ("hit", "miss")),
        QUERY_SECONDS,
    ),
    Metric(
        "kb_chroma_request_duration_seconds",
        "histogram",
        "Calls to Chroma, failed ones too.",
        ("op",),
        _each(*CHROMA_OPERATIONS),
    ),
    Metric(
        "kb_chroma_retries_total", "counter", "Calls to Chroma tried once more.", ("op",), _each(*CHROMA_OPERATIONS)
    ),
    Metric(
        "kb_embedding_duration_seconds",
        "histogram",
        "Calls of the embedding model.",
        ("kind",),
        _each(*EMBEDDING_KINDS),
    ),
    Metric("kb_embedding_errors_total", "counter", "Embeddings that failed.", ("kind",), _each(*EMBEDDING_KINDS)),
    Metric(
        "kb_embedding_failure",
        "gauge",
        "1 = why there are no embeddings now; all 0 while they work, and while the model is loading.",
        ("reason",),
        _each(*MODEL_FAILURES),
    ),
    Metric(
        "kb_embedding_available",
        "gauge",
        "1 = the backend is installed, or a GPU that it could use is there; only loading shows whether it works.",
        ("choice",),
        _each(*EMBEDDING_CHOICES),
    ),
    Metric(
        "kb_index_model_info",
        "gauge",
        "Always 1; the model of the vectors stored last. No name: none is stored, or no folder here holds that model.",
        ("model", "model_hash"),
    ),
    Metric("kb_embedding_fallbacks_total", "counter", "Times that another backend or device had to stand in."),
    Metric("kb_query_cache_hit_ratio", "gauge", "Hits of the query cache since the start, 0 to 1."),
    Metric("kb_embedding_cache_hit_ratio", "gauge", "Hits of the embedding cache since the start, 0 to 1."),
    Metric("kb_query_cache_hits_total", "counter", "Answers found in the query cache."),
    Metric("kb_query_cache_misses_total", "counter", "Answers not found in the query cache."),
    Metric("kb_embedding_cache_hits_total", "counter", "Query vectors found in the embedding cache."),
    Metric("kb_embedding_cache_misses_total", "counter", "Query vectors not found in the embedding cache."),
    Metric("cache_evictions_total", "counter", "Entries pushed out by size or memory.", ("cache",), _each(*CACHES)),
    Metric("kb_cache_bytes", "gauge", "Estimated memory of a cache.", ("cache",), _each(*CACHES)),
    Metric(
        "kb_cache_ghost_hits_total",
        "counter",
        "Misses on entries evicted a short while ago: what a larger cache would have held.",
        ("cache",),
        _each(*CACHES),
    ),
    Metric("kb_query_diversity_ratio", "gauge", "Distinct queries among the last 1,000, 0 to 1."),
    Metric("kb_degraded_mode", "gauge", "1 while queries are answered without vectors."),
    Metric("kb_chroma_breaker_state", "gauge", "Circuit breaker of Chroma: 0 closed, 1 half-open, 2 open."),
    Metric("kb_canary_success_ratio", "gauge", "Canaries that found themselves, worst collection of the last round."),
    Metric("kb_canary_timestamp_seconds", "gauge", "Unix time at which the last round of canaries ended."),
    Metric("kb_probe_success", "gauge", "1 = the last synthetic query to the service's address was answered, else 0."),
    Metric("kb_probe_duration_seconds", "gauge", "How long it took, connection and all, or until it failed."),
    Metric(
        "kb_probe_timestamp_seconds",
        "gauge",
        "Unix time at which it ended; 0 until one has been answered, and where none is sent.",
    ),
    Metric("kb_ingest_queue_documents", "gauge", "Documents accepted but not yet searchable by vector."),
    Metric("kb_dead_letters", "gauge", "Chunks given up after INGEST_MAX_TRIES failures of their own, all projects."),
    Metric(
        "kb_index_seq", "gauge", "Number of the last change that the keyword index holds; cached answers belong to one."
    ),
    Metric("kb_index_lag", "gauge", "Changes in the database that this process's keyword index has not applied."),
    Metric("kb_collection_vectors", "gauge", "Vectors stored for a project (the 200 largest).", ("project",)),
    Metric(
        "kb_collection_up",
        "gauge",
        "0 while one project is answered without vectors: its canaries fail, or its model changes (the 200 largest).",
        ("project",),
    ),
    Metric(
        "kb_collection_damaged",
        "gauge",
        "1 while the canaries of a collection fail that is there: it takes no writes until it is rebuilt "
        "(the 200 largest).",
        ("project",),
    ),
    Metric("kb_database_write_duration_seconds", "histogram", "Time from asking for a write until it is durable."),
    Metric("kb_database_errors_total", "counter", "Errors of SQLite.", ("kind",), _each(*DATABASE_ERRORS)),
    Metric("kb_volume_capacity_bytes", "gauge", "Size of a volume's file system.", ("volume",), _each("data")),
    Metric("kb_volume_available_bytes", "gauge", "Space left for this process.", ("volume",), _each("data")),
    Metric("kb_component_up", "gauge", "1 = the component works.", ("component",), _each(*COMPONENTS)),
    Metric("kb_build_info", "gauge", "Always 1; what runs here.", ("version", "model_hash", "schema")),
    Metric(
        "kb_shipping_lag_seconds", "gauge", "Age of the oldest change that is not on the backup volume; 0 without one."
    ),
    Metric("kb_shipping_active", "gauge", "1 = this process ships the changes; one replica does."),
    Metric("kb_shipping_seq", "gauge", "Number of the last change that is on the backup volume."),
    Metric("kb_settings_errors_total", "counter", "Reads of the settings file that could not be used."),
    Metric("kb_api_keys_errors_total", "counter", "Reads of the file of API keys that could not be used."),
    Metric(
        "kb_access_refused_total",
        "counter",
        "Requests refused for want of a right, by what was wrong.",
        ("reason",),
        _each(*ACCESS_REFUSALS),
    ),
    Metric("kb_rate_limit_shared", "gauge", "1 = the rate limit holds over all replicas; 0 = each counts alone."),
    Metric("kb_cpu_limit_cores", "gauge", "CPU limit of the cgroup, in cores; 0 = none."),
    Metric("kb_memory_anon_bytes", "gauge", "Anonymous memory of this process."),
    Metric("kb_memory_limit_bytes", "gauge", "Memory limit of the cgroup; 0 = none."),
    Metric("kb_memory_errors_total", "counter", "Requests that failed for want of memory."),
    Metric("process_resident_memory_bytes", "process", "Resident memory."),
    Metric("process_virtual_memory_bytes", "process", "Virtual memory."),
    Metric("process_start_time_seconds", "process", "Unix time of the start."),
    Metric("process_cpu_seconds_total", "process", "CPU time."),
    Metric("process_open_fds", "process", "Open file descriptors."),
    Metric("process_max_fds", "process", "Limit of file descriptors."),
)


class Metrics:
    """The table's series in a registry of their own; an unknown name or label is a KeyError or ValueError."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        for metric in TABLE:
            self._register(metric)
        ProcessCollector(registry=self._registry)

    def _register(self, metric: Metric) -> None:
        created: Counter | Gauge | Histogram
        match metric.kind:
            case "counter":
                created = Counter(metric.name, metric.help, metric.labels, registry=self._registry)
                self._counters[metric.name] = created
            case "gauge":
                created = Gauge(metric.name, metric.help, metric.labels, registry=self._registry)
                self._gauges[metric.name] = created
            case "histogram":
                created = Histogram(
                    metric.name, metric.help, metric.labels, buckets=metric.buckets, registry=self._registry
                )
                self._histograms[metric.name] = created
            case "process":
                return
        for values in metric.values:
            created.labels(*values)

    def inc(self, name: str, amount: float = 1, **labels: str) -> None:
        """Raise a counter; an amount of 0 makes the series appear."""
        counter = self._counters[name]
        (counter.labels(**labels) if labels else counter).inc(amount)

    def set(self, name: str, value: float, **labels: str) -> None:
        gauge = self._gauges[name]
        (gauge.labels(**labels) if labels else gauge).set(value)

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        histogram = self._histograms[name]
        (histogram.labels(**labels) if labels else histogram).observe(seconds)

    def replace(self, name: str, values: Mapping[tuple[str, ...], float]) -> None:
        """Set all series of a gauge at once; those not named disappear."""
        gauge = self._gauges[name]
        gauge.clear()
        for labels, value in values.items():
            gauge.labels(*labels).set(value)

    def render(self) -> bytes:
        """Prometheus text format."""
        return generate_latest(self._registry)
