"""What is asked about caches and memory: name, metric, PromQL and runbooks, as `queries.Query` takes them."""

from typing import Final, TypeAlias

from knowledgebeast_operator.core import cache_views, memory_pressure, memory_views

Question: TypeAlias = tuple[str, str, str, tuple[str, ...]]

CACHES: Final = ("CacheHitRatioDrop",)
MEMORY: Final = ("MemoryPressure",)
BOTH: Final = (*MEMORY, *CACHES)

LATE_SECONDS: Final = 120
"""What changes a pod's index, or loads its CPU, now rather than some time in the window."""

HOUR_SECONDS: Final = 3600


def _increase(metric: str, *more_labels: str) -> str:
    by = ", ".join(("namespace", "pod", *more_labels))
    return f"sum by ({by}) (increase({metric}[{{window}}]))"


def _labelled(expression: str, **labels: str) -> str:
    for name, value in labels.items():
        expression = f'label_replace({expression}, "{name}", "{value}", "", "")'
    return expression


CACHE_EVENTS: Final = " or ".join(
    (
        _labelled(_increase("cache_evictions_total", "cache"), event="eviction"),
        _labelled(_increase("kb_cache_ghost_hits_total", "cache"), event="ghost_hit"),
        _labelled(_increase("kb_query_cache_hits_total"), cache="query", event="hit"),
        _labelled(_increase("kb_query_cache_misses_total"), cache="query", event="miss"),
        _labelled(_increase("kb_embedding_cache_hits_total"), cache="embedding", event="hit"),
        _labelled(_increase("kb_embedding_cache_misses_total"), cache="embedding", event="miss"),
    )
)
"""All counters of both caches in one question, told apart by the labels `cache` and `event`."""

QUESTIONS: Final[tuple[Question, ...]] = (
    (cache_views.EVENTS, "kb_query_cache_hits_total", CACHE_EVENTS, CACHES),
    (cache_views.RECENT_EVENTS, "kb_query_cache_hits_total", CACHE_EVENTS, ("HighQueryLatency",)),
    (
        cache_views.DURATIONS,
        "kb_query_duration_seconds",
        _increase("kb_query_duration_seconds_bucket", "cache", "le"),
        CACHES,
    ),
    (cache_views.DIVERSITY, "kb_query_diversity_ratio", "kb_query_diversity_ratio", CACHES),
    (cache_views.INDEX_CHANGES, "kb_index_seq", "changes(kb_index_seq[{window}])", CACHES),
    (cache_views.LATE_INDEX_CHANGES, "kb_index_seq", f"changes(kb_index_seq[{LATE_SECONDS}s])", CACHES),
    (cache_views.CPU, "process_cpu_seconds_total", f"rate(process_cpu_seconds_total[{LATE_SECONDS}s])", CACHES),
    (memory_views.ANON, "kb_memory_anon_bytes", "kb_memory_anon_bytes[{range}]", ("HighQueryLatency", *BOTH)),
    (memory_views.LIMIT, "kb_memory_limit_bytes", "max by (namespace, pod) (kb_memory_limit_bytes)", BOTH),
    (memory_views.CACHE_BYTES, "kb_cache_bytes", "max by (namespace, pod, cache) (kb_cache_bytes)", BOTH),
    (memory_views.CACHE_GROWTH, "kb_cache_bytes", "sum by (namespace, pod) (deriv(kb_cache_bytes[{window}]))", MEMORY),
    (memory_pressure.ERRORS, "kb_memory_errors_total", _increase("kb_memory_errors_total"), MEMORY),
    (
        memory_pressure.RESTARTS,
        "process_start_time_seconds",
        f"changes(process_start_time_seconds[{HOUR_SECONDS}s])",
        MEMORY,
    ),
    (memory_pressure.QUEUED, "kb_ingest_queue_documents", "kb_ingest_queue_documents", MEMORY),
)
