"""Builders of facts about caches and memory: a service that is well, with one change."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from kb_facts import NOW, SCRAPE, facts
from knowledgebeast_operator.core.actions import Target
from knowledgebeast_operator.core.facts import Fact, Facts, Known, PerPod, Row, Sample
from knowledgebeast_operator.custom_resource import Spec

MIB = 1024**2
PODS = ("demo-a", "demo-b")
WINDOW = timedelta(minutes=30)
LIMIT = 2048 * MIB


@dataclass(frozen=True)
class Traffic:
    """Counts of one cache over both pods."""

    hits: float
    misses: float
    evictions: float = 0.0
    ghost_hits: float = 0.0


GOOD = Traffic(hits=950, misses=50)
COLD = Traffic(hits=100, misses=900)
SMALL = Traffic(hits=400, misses=600, evictions=550, ghost_hits=300)
DIVERSE = Traffic(hits=100, misses=900, evictions=880, ghost_hits=5)


def rows(values: Mapping[tuple[str, ...], float], *labels: str) -> Known[tuple[Row, ...]]:
    """Rows whose labels have these values."""
    return Known(tuple(Row(dict(zip(labels, key, strict=True)), value, NOW) for key, value in values.items()), NOW)


def of_pods(value: float) -> Known[tuple[Row, ...]]:
    return rows({(pod,): value for pod in PODS}, "pod")


def events(query: Traffic, embedding: Traffic) -> Known[tuple[Row, ...]]:
    """Half of everything on each pod."""
    counts = {
        (pod, cache, event): count / len(PODS)
        for pod in PODS
        for cache, traffic in (("query", query), ("embedding", embedding))
        for event, count in (
            ("hit", traffic.hits),
            ("miss", traffic.misses),
            ("eviction", traffic.evictions),
            ("ghost_hit", traffic.ghost_hits),
        )
    }
    return rows(counts, "pod", "cache", "event")


def durations(miss_seconds: float) -> Known[tuple[Row, ...]]:
    """200 cached answers within 5 ms and 200 others within `miss_seconds`, an edge of the buckets, on each pod."""
    edges = (0.005, 0.05, 0.1, 0.15, 0.25)
    counts = {
        (pod, cache, edge): 200.0 if float(edge) >= took else 0.0
        for pod in PODS
        for cache, took in (("hit", edges[0]), ("miss", miss_seconds))
        for edge in (*map(str, edges), "inf")
    }
    return rows(counts, "pod", "cache", "le")


def memory_series(value: float | Callable[[float], float], span: timedelta = WINDOW) -> Known[PerPod]:
    """Of both pods, over the span up to NOW; `value` in bytes, or of the seconds before NOW."""
    count = int(span / SCRAPE)
    ages = [back * SCRAPE.total_seconds() for back in range(count, -1, -1)]
    samples = tuple(Sample(NOW - timedelta(seconds=ago), value(ago) if callable(value) else value) for ago in ages)
    return Known(dict.fromkeys(PODS, samples), NOW)


def cached_facts(
    *,
    query: Traffic = GOOD,
    embedding: Traffic = GOOD,
    diversity: float = 0.3,
    miss_seconds: float = 0.05,
    index_changes: float = 0.0,
    late_index_changes: float = 0.0,
    cpu: float = 0.2,
    anon: float | Callable[[float], float] = 700 * MIB,
    limit: float = LIMIT,
    cache_bytes: Mapping[str, float] | None = None,
    cache_growth: float = 0.0,
    memory_errors: float = 0.0,
    queued: float = 0.0,
    node_used: float = 4096.0 * MIB,
    spec: Mapping[str, object] | None = None,
    hidden: Mapping[str, Fact[tuple[Row, ...]]] | None = None,
    **changes: object,
) -> Facts:
    """Caches that answer 95 %, a third of the memory in use, an index that rests."""
    held = {"query": 20.0 * MIB, "embedding": 10.0 * MIB} if cache_bytes is None else cache_bytes
    by_name: dict[str, Fact[tuple[Row, ...]]] = {
        "cache_events": events(query, embedding),
        "recent_cache_events": events(query, embedding),
        "query_diversity": of_pods(diversity),
        "query_durations_by_cache": durations(miss_seconds),
        "index_changes": of_pods(index_changes),
        "late_index_changes": of_pods(late_index_changes),
        "late_service_cpu": of_pods(cpu),
        "memory_limit": of_pods(limit),
        "cache_growth": of_pods(cache_growth),
        "memory_errors": of_pods(memory_errors),
        "service_restarts": of_pods(0),
        "documents_in_flight": of_pods(queued),
        "node_cpu_share": rows({("node-1",): 0.2}, "node"),
        "node_memory": rows({("node-1",): 16.0 * 1024 * MIB}, "node"),
        "node_memory_used": rows({("node-1",): node_used}, "node"),
        "cache_bytes": rows({(pod, name): size for pod in PODS for name, size in held.items()}, "pod", "cache"),
        **(hidden or {}),
    }
    whole = replace(
        facts(),
        spec=Spec.model_validate(spec or {}),
        service_workload=Known(Target(kind="Deployment", name="demo", uid="uid-deployment"), NOW),
        rows_by_name=by_name,
        series_by_name={"memory_anon": memory_series(anon)},
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def minutes_ago(count: float) -> datetime:
    return NOW - timedelta(minutes=count)
