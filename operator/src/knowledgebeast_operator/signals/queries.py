"""The PromQL of this operator, one query per signal for all objects at once.

Two sorts of question. A *series* is a range vector asked as an instant query: every sample with the time of its scrape,
and the history in the same call. *Rows* are one value per group over a window, such as an increase. Names come from the
service's table (`telemetry/metrics.py`), the kubelet and cAdvisor; a contract test compares them. Nothing of an object
goes into a query, so there is nothing to inject.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Final

from knowledgebeast_operator.core import latency_options, latency_views, load, probes
from knowledgebeast_operator.core.answers import ANSWER_HISTORY, ANSWERS, SERVER_ERROR_HISTORY
from knowledgebeast_operator.core.components import COMPONENTS, DATABASE_TROUBLE
from knowledgebeast_operator.core.revisions import BUILD, HISTORY_STEP
from knowledgebeast_operator.core.rollback import KEY_ERRORS
from knowledgebeast_operator.signals.cache_questions import QUESTIONS

HISTORIES: Final = tuple(timedelta(minutes=minutes) for minutes in (2, 5, 10, 30, 60))
"""The ranges that are asked for: few, so that objects with similar windows share their queries."""

NOT_TRAFFIC: Final = "/livez|/readyz|/health|/metrics|/probe"
"""What the cluster asks by itself; it would make an idle service look busy and an error ratio small."""


class Scope(StrEnum):
    """Whose values a query brings: which label says that they belong to an object."""

    SERVICE = "service"  # pods of the service, label pod
    CHROMA = "chroma"  # pods of Chroma
    CLAIMS = "claims"  # label persistentvolumeclaim
    NODES = "nodes"  # nodes that the object's pods run on, label node


@dataclass(frozen=True, slots=True)
class Query:
    """A signal and how to ask for it; `{range}` of series and `{window}` of rows are filled in.

    `name` is what runbooks ask facts for, `signal` the metric that it reads. `runbooks` say how far back: the longest
    of their windows.
    """

    name: str
    signal: str
    template: str
    runbooks: tuple[str, ...]
    scope: Scope = Scope.SERVICE

    @property
    def is_series(self) -> bool:
        """Whether it brings samples, not one value per group."""
        return "{range}" in self.template

    def promql(self, window: timedelta) -> str:
        """The query for at least that last period; ranges of series are few, so that objects share their queries."""
        return _filled(self.template, window)


@lru_cache(maxsize=1024)
def _filled(template: str, window: timedelta) -> str:
    fitting = next((known for known in HISTORIES if known >= window), window)
    return template.format(range=_seconds(fitting), window=_seconds(window))


def _seconds(period: timedelta) -> str:
    return f"{int(period.total_seconds())}s"


def _buckets(metric: str, labels: str = "", period: str = "{window}") -> str:
    """The increase of a histogram's buckets, by pod and edge."""
    return f"sum by (namespace, pod, le) (increase({metric}_bucket{{{{{labels}}}}}[{period}]))"


API_ERROR_RATE_SPIKE: Final = ("APIErrorRateSpike",)
CHROMA_UNREACHABLE: Final = ("ChromaUnreachable",)
DATABASE_CORRUPTION: Final = ("DatabaseCorruption",)
EMBEDDING_MODEL_FAILURE: Final = ("EmbeddingModelFailure",)
DISK_SPACE_CRITICAL: Final = ("DiskSpaceCritical",)
HIGH_QUERY_LATENCY: Final = ("HighQueryLatency",)

BREAKER_STATE: Final = "breaker_state"
CANARY_SUCCESS_RATIO: Final = "canary_success_ratio"
CANARY_TIMESTAMP: Final = "canary_timestamp"
DEGRADED_MODE: Final = "degraded_mode"
DATABASE_ERRORS: Final = "database_errors"
DATABASE_UP: Final = "database_up"
COLLECTION_DAMAGED: Final = "collection_damaged"
REQUESTS: Final = "requests"
VOLUME_AVAILABLE: Final = "volume_available"
VOLUME_CAPACITY: Final = "volume_capacity"
DATABASE_FULL: Final = "database_full"

TRAFFIC: Final = f'path!~"{NOT_TRAFFIC}"'


def _increase(metric: str, labels: str, *, by: str) -> str:
    """The increase over the window, by pod and these labels."""
    return f"sum by (namespace, pod{by}) (increase({metric}{{{{{labels}}}}}[{{window}}]))"


def _busier_of(*periods: str) -> str:
    """CPU of each pod, over that of the periods in which it used most.

    A load that has just begun would be watered down by the quiet before it, and what only waits for CPU taken for slow.
    """
    slopes = (
        f'label_replace(clamp_min(deriv({load.POD_CPU}[{period}]), 0), "period", "{number}", "", "")'
        for number, period in enumerate(periods)
    )
    return f"max by (namespace, pod) ({' or '.join(slopes)})"


def _half_an_hour_of(question: str) -> str:
    """The same question at every step of the last half hour."""
    return f"({question})[31m:{int(HISTORY_STEP.total_seconds())}s]"


_EMBEDDING: Final = (
    Query(
        "embedding_model_up",
        "kb_component_up",
        'kb_component_up{{component="embedding_model"}}[{range}]',
        EMBEDDING_MODEL_FAILURE,
    ),
    Query("embedding_failure", "kb_embedding_failure", "kb_embedding_failure", EMBEDDING_MODEL_FAILURE),
    Query("embedding_available", "kb_embedding_available", "kb_embedding_available", EMBEDDING_MODEL_FAILURE),
    Query("index_model", "kb_index_model_info", "kb_index_model_info", EMBEDDING_MODEL_FAILURE),
    Query(
        "embedding_errors",
        "kb_embedding_errors_total",
        "sum by (namespace, pod, kind) (increase(kb_embedding_errors_total[{window}]))",
        EMBEDDING_MODEL_FAILURE,
    ),
    Query(
        "embedding_calls",
        "kb_embedding_duration_seconds",
        "sum by (namespace, pod, kind) (increase(kb_embedding_duration_seconds_count[{window}]))",
        EMBEDDING_MODEL_FAILURE,
    ),
    Query(
        "embedding_seconds",
        "kb_embedding_duration_seconds",
        "sum by (namespace, pod, kind) (increase(kb_embedding_duration_seconds_sum[{window}]))",
        EMBEDDING_MODEL_FAILURE,
    ),
    Query("ingest_queue", "kb_ingest_queue_documents", "kb_ingest_queue_documents[{range}]", EMBEDDING_MODEL_FAILURE),
)

_DISK: Final = (
    Query(
        VOLUME_AVAILABLE,
        "kubelet_volume_stats_available_bytes",
        "kubelet_volume_stats_available_bytes[{range}]",
        DISK_SPACE_CRITICAL,
        Scope.CLAIMS,
    ),
    Query(
        VOLUME_CAPACITY,
        "kubelet_volume_stats_capacity_bytes",
        "kubelet_volume_stats_capacity_bytes[{range}]",
        DISK_SPACE_CRITICAL,
        Scope.CLAIMS,
    ),
    Query(
        DATABASE_FULL,
        "kb_database_errors_total",
        'sum by (namespace, pod) (increase(kb_database_errors_total{{kind="full"}}[5m]))',
        DISK_SPACE_CRITICAL,
    ),
)

QUERIES: Final = (
    *_DISK,
    *_EMBEDDING,
    *(Query(*question) for question in QUESTIONS),
    Query(BREAKER_STATE, "kb_chroma_breaker_state", "kb_chroma_breaker_state[{range}]", CHROMA_UNREACHABLE),
    Query(CANARY_SUCCESS_RATIO, "kb_canary_success_ratio", "kb_canary_success_ratio[{range}]", CHROMA_UNREACHABLE),
    Query(CANARY_TIMESTAMP, "kb_canary_timestamp_seconds", "kb_canary_timestamp_seconds[{range}]", CHROMA_UNREACHABLE),
    Query(DEGRADED_MODE, "kb_degraded_mode", "kb_degraded_mode[{range}]", CHROMA_UNREACHABLE),
    Query(COLLECTION_DAMAGED, "kb_collection_damaged", "kb_collection_damaged", CHROMA_UNREACHABLE),
    Query(
        DATABASE_ERRORS,
        "kb_database_errors_total",
        'kb_database_errors_total{{kind="corrupt"}}[{range}]',
        DATABASE_CORRUPTION,
    ),
    Query(DATABASE_UP, "kb_component_up", 'kb_component_up{{component="database"}}[{range}]', DATABASE_CORRUPTION),
    Query(
        REQUESTS,
        "http_requests_total",
        _increase("http_requests_total", TRAFFIC, by=", status"),
        CHROMA_UNREACHABLE,
    ),
    Query(
        ANSWERS,
        "http_requests_total",
        _increase("http_requests_total", TRAFFIC, by=", path, status"),
        API_ERROR_RATE_SPIKE,
    ),
    Query(
        ANSWER_HISTORY,
        "http_requests_total",
        _half_an_hour_of(_increase("http_requests_total", TRAFFIC, by="")),
        API_ERROR_RATE_SPIKE,
    ),
    Query(
        SERVER_ERROR_HISTORY,
        "http_requests_total",
        _half_an_hour_of(_increase("http_requests_total", f'{TRAFFIC},status=~"5..",status!="507"', by="")),
        API_ERROR_RATE_SPIKE,
    ),
    Query(BUILD, "kb_build_info", "kb_build_info", API_ERROR_RATE_SPIKE),
    Query(COMPONENTS, "kb_component_up", "kb_component_up", (*API_ERROR_RATE_SPIKE, *HIGH_QUERY_LATENCY)),
    Query(
        DATABASE_TROUBLE,
        "kb_database_errors_total",
        _increase("kb_database_errors_total", "", by=", kind"),
        API_ERROR_RATE_SPIKE,
    ),
    Query(
        KEY_ERRORS, "kb_api_keys_errors_total", _increase("kb_api_keys_errors_total", "", by=""), API_ERROR_RATE_SPIKE
    ),
    Query(latency_views.QUERIES, latency_views.QUERY, _buckets(latency_views.QUERY), HIGH_QUERY_LATENCY),
    Query(
        latency_views.RECENT_QUERIES,
        latency_views.QUERY,
        _buckets(latency_views.QUERY, period=_seconds(latency_views.RECENT)),
        HIGH_QUERY_LATENCY,
    ),
    Query(
        latency_views.CHROMA_CALLS,
        latency_views.CHROMA,
        _buckets(latency_views.CHROMA, 'op="query"'),
        HIGH_QUERY_LATENCY,
    ),
    Query(
        latency_views.EMBEDDINGS,
        latency_views.EMBEDDING,
        _buckets(latency_views.EMBEDDING, 'kind="query"'),
        HIGH_QUERY_LATENCY,
    ),
    Query(
        load.SERVICE_CPU,
        load.POD_CPU,
        _busier_of("{window}", _seconds(latency_views.RECENT)),
        HIGH_QUERY_LATENCY,
    ),
    Query(
        load.NODE_CPU_SHARE,
        load.NODE_CPU,
        f'max by (node) (rate({load.NODE_CPU}{{{{id="/"}}}}[{{window}}])) / max by (node) (machine_cpu_cores)',
        HIGH_QUERY_LATENCY,
        Scope.NODES,
    ),
    Query(
        load.NODE_MEMORY_USED,
        load.NODE_MEMORY,
        f'max by (node) ({load.NODE_MEMORY}{{{{id="/"}}}})',
        HIGH_QUERY_LATENCY,
        Scope.NODES,
    ),
    Query(
        load.NODE_MEMORY_TOTAL,
        load.MACHINE_MEMORY,
        f"max by (node) ({load.MACHINE_MEMORY})",
        HIGH_QUERY_LATENCY,
        Scope.NODES,
    ),
    *(
        Query(name, metric, f"{metric}[{{range}}]", (*API_ERROR_RATE_SPIKE, *HIGH_QUERY_LATENCY))
        for name, metric in (
            (probes.PROBE_SUCCESS, probes.SUCCESS),
            (probes.PROBE_DURATION, probes.DURATION),
            (probes.PROBE_TIMESTAMP, probes.TIMESTAMP),
        )
    ),
    Query(latency_options.VECTORS, "kb_collection_vectors", "kb_collection_vectors", HIGH_QUERY_LATENCY),
)
"""Everything that is asked in a tick. A name is a row of `Facts.series` or `Facts.rows`."""
