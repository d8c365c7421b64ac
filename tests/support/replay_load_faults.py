"""What can be wrong with speed, memory and caches (incidents 1, 3 and 7), and how each story is to end."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final

from cache_facts import COLD, DIVERSE, LIMIT, MIB, SMALL
from kb_facts import NOW
from knowledgebeast_operator.core.actions import Action, RollingRestart
from knowledgebeast_operator.core.facts import Pod, Row
from replay_faults import Case, restarts, runs, sets
from replay_service import MEMORY, ServiceFault
from replay_signals import each, histogram, met
from replay_windows import Rows
from replay_world import SERVICE_PODS

LATENCY: Final = "HighQueryLatency"
PRESSURE: Final = "MemoryPressure"
CACHES: Final = "CacheHitRatioDrop"

SLOW: Final[Mapping[str, Rows]] = {
    "query_durations": histogram(1000, 30),
    "query_durations_recent": histogram(400, 12),
}
SLOW_CHROMA: Final = {**SLOW, "chroma_call_durations": histogram(600, 60, above=0.2)}
BUSY: Final = {**SLOW, "service_cpu": each(1.8), "late_service_cpu": each(1.8)}
BUSY_NODE: Final = {"node_cpu_share": (Row({"node": "node-1"}, 0.95, NOW),)}


def replaces_pods(action: Action) -> bool:
    return isinstance(action, RollingRestart)


def high(seconds: float) -> float:
    return 0.93 * LIMIT


def leaking(seconds: float) -> float:
    return 0.85 * LIMIT + 90 * MIB * seconds / 3600


def with_documents(seconds: float) -> float:
    """High while they are read, and low for two minutes of ten."""
    return MEMORY if 120 <= seconds % 600 < 240 else 0.95 * LIMIT


def killed(pod: Pod, began: datetime) -> Pod:
    """One of them, for its memory."""
    if pod.name != SERVICE_PODS[0] or pod.container is None:
        return pod
    state = replace(pod.container, restart_count=1, last_exit_reason="OOMKilled", last_finished_at=began)
    return replace(pod, container=state)


def cached(megabytes: float) -> Rows:
    return (*each(megabytes * MIB, cache="query"), *each(10.0 * MIB, cache="embedding"))


_LATENCY: Final[Mapping[str, Case]] = {
    "a restart has emptied the caches": Case(
        ServiceFault(rows={**SLOW, **met(COLD)}, restarts=True, is_cured_by=runs("warm")),
        LATENCY,
        ("WarmCaches Successful",),
    ),
    "the query cache is too small for speed": Case(
        ServiceFault(rows={**SLOW, **met(SMALL)}, is_cured_by=sets("cache.queryEntries", 2500)),
        LATENCY,
        ("EnlargeQueryCache Successful",),
    ),
    "chroma has become slow": Case(
        ServiceFault(rows=SLOW_CHROMA, is_cured_by=restarts), LATENCY, ("RestartChroma Successful",)
    ),
    "chroma is slow because its node is busy": Case(
        ServiceFault(rows={**SLOW_CHROMA, **BUSY_NODE}), LATENCY, (), is_cured=False
    ),
    "the pods are too few": Case(
        ServiceFault(rows=BUSY, is_cured_by=sets("service.replicas", 3)), LATENCY, ("ScaleOut Successful",)
    ),
    "more pods do not help": Case(
        ServiceFault(rows=BUSY, is_cured_by=sets("service.config.rateLimitPerMinute", 50)),
        LATENCY,
        ("ScaleOut Undone", "ShedLoad Successful"),
    ),
    "the model has become slow": Case(
        ServiceFault(rows={**SLOW, "embedding_durations": histogram(300, 40, above=0.2)}, is_cured_by=replaces_pods),
        LATENCY,
        ("RestartSlowPods Successful",),
    ),
    "nobody knows why it is slow": Case(ServiceFault(rows=SLOW), LATENCY, (), is_cured=False),
}

_PRESSURE: Final[Mapping[str, Case]] = {
    "the caches hold the memory": Case(
        ServiceFault(rows={"cache_bytes": cached(800)}, memory=high, is_cured_by=sets("cache.maxMemoryMB")),
        PRESSURE,
        ("LimitCaches Successful",),
    ),
    "the caches are not all": Case(
        ServiceFault(rows={"cache_bytes": cached(800)}, memory=high, is_cured_by=replaces_pods),
        PRESSURE,
        ("LimitCaches Undone", "RestartService Successful"),
    ),
    "large documents come in": Case(
        ServiceFault(
            rows={"documents_in_flight": each(4)},
            memory=with_documents,
            is_cured_by=sets("service.config.maxDocumentSizeMB", 25),
        ),
        PRESSURE,
        ("LimitDocuments Successful",),
    ),
    "something leaks": Case(
        ServiceFault(memory=leaking, is_cured_by=replaces_pods),
        PRESSURE,
        ("ProfileHeap Diagnosed", "RestartService Successful"),
    ),
    "a pod was killed for its memory": Case(
        ServiceFault(service=killed, is_cured_by=sets("service.resources.limits.memory", "3072Mi")),
        PRESSURE,
        ("RaiseMemoryLimit Successful",),
    ),
    "memory is short and a restart does not help": Case(
        ServiceFault(memory=high, is_cured_by=sets("service.resources.limits.memory", "3072Mi")),
        PRESSURE,
        ("RestartService Failed", "RaiseMemoryLimit Successful"),
    ),
}

_CACHES: Final[Mapping[str, Case]] = {
    "a restart has emptied the caches of a quick service": Case(
        ServiceFault(rows=met(COLD), restarts=True, is_cured_by=runs("warm")),
        CACHES,
        ("WarmCaches Successful",),
    ),
    "the index has moved on": Case(
        ServiceFault(rows={**met(COLD), "index_changes": each(2)}, is_cured_by=runs("warm")),
        CACHES,
        ("WarmCaches Successful",),
    ),
    "the caches are too small": Case(
        ServiceFault(rows=met(SMALL, SMALL), is_cured_by=sets("cache.queryEntries", 2500)),
        CACHES,
        ("EnlargeCaches Successful",),
    ),
    "queries differ and their embeddings are pushed out": Case(
        ServiceFault(
            rows={**met(DIVERSE, SMALL), "query_diversity": each(0.9)},
            is_cured_by=sets("cache.embeddingEntries", 10_000),
        ),
        CACHES,
        ("EmbeddingCacheOnly Successful",),
    ),
    "nobody knows why the caches miss": Case(ServiceFault(rows=met(COLD)), CACHES, (), is_cured=False),
}

LOAD_CASES: Final[Mapping[str, Case]] = {**_LATENCY, **_PRESSURE, **_CACHES}
