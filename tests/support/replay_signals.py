"""What every signal of a KnowledgeBeast reads while nothing is wrong, and how to write down what else it could read."""

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from answer_facts import answers, builds, components, database_errors
from cache_facts import GOOD, LIMIT, MIB, Traffic, durations, events
from kb_facts import NOW
from knowledgebeast_operator.core.answers import ANSWERS
from knowledgebeast_operator.core.components import COMPONENTS, DATABASE_TROUBLE
from knowledgebeast_operator.core.facts import Row
from knowledgebeast_operator.core.revisions import BUILD
from knowledgebeast_operator.core.rollback import KEY_ERRORS
from replay_windows import Rows
from replay_world import ROWS, SERVICE_PODS

INDEX: Final = "sentence-transformers/all-MiniLM-L6-v2"
EDGES: Final = (0.05, 0.1, 0.2, 0.25, 0.5, 1.0, math.inf)
FEW: Final = timedelta(minutes=3)
SHORT: Final = timedelta(minutes=5)
LONG: Final = timedelta(minutes=30)


def each(value: float, **labels: str) -> Rows:
    """The same value on each service pod."""
    return tuple(Row({"pod": name} | labels, value, NOW) for name in SERVICE_PODS)


def histogram(total: float, slow: float = 0.0, *, above: float = 0.5) -> Rows:
    """On each pod so many observations, of which some took longer than an edge, and not as long as the next one."""
    counts = {edge: total - slow if edge <= above else total for edge in EDGES}
    return tuple(row for edge, count in counts.items() for row in each(count, le=str(edge)))


def caches(query: Traffic = GOOD, embedding: Traffic = GOOD) -> Rows:
    """What both caches met, over both pods."""
    return events(query, embedding).value


def met(*traffic: Traffic) -> Mapping[str, Rows]:
    """What the caches have met, in both windows in which it is asked for."""
    return dict.fromkeys(("cache_events", "recent_cache_events"), caches(*traffic))


def told(cause: str | None) -> Rows:
    """Why the pods have no model; all reasons are there, and 0 where they are not why."""
    reasons = ("files", "device", "mismatch", "runtime")
    return tuple(row for reason in reasons for row in each(float(reason == cause), reason=reason))


def at_hand(*choices: str) -> Rows:
    """What the pods could compute embeddings with."""
    every = ("sentence-transformers", "cuda")
    return tuple(row for choice in every for row in each(float(choice in choices), choice=choice))


WELL: Final[Mapping[str, Rows]] = {
    **ROWS,
    "query_durations": histogram(1000),
    "query_durations_recent": histogram(400),
    "chroma_call_durations": histogram(600),
    "embedding_durations": histogram(300),
    "service_cpu": each(0.5),
    "late_service_cpu": each(0.2),
    "collection_vectors": each(20_000, project="books"),
    **met(),
    "query_diversity": each(0.3),
    "query_durations_by_cache": durations(0.05).value,
    "index_changes": each(0),
    "late_index_changes": each(0),
    "memory_limit": each(LIMIT),
    "cache_growth": each(0),
    "cache_bytes": (*each(20.0 * MIB, cache="query"), *each(10.0 * MIB, cache="embedding")),
    "memory_errors": each(0),
    "service_restarts": each(0),
    "documents_in_flight": each(0),
    "embedding_failure": told(None),
    "embedding_available": at_hand(),
    "index_model": each(1, model=INDEX),
    "embedding_calls": each(100, kind="query"),
    "embedding_errors": each(0, kind="query"),
    "embedding_seconds": each(1.0, kind="query"),
    "database_full": each(0),
    "requests": answers(500),
    ANSWERS: answers(500),
    BUILD: builds(),
    COMPONENTS: components(),
    DATABASE_TROUBLE: database_errors(busy=0, corrupt=0),
    KEY_ERRORS: each(0),
}

WINDOWS: Final[Mapping[str, timedelta]] = {
    "query_durations": SHORT,
    "query_durations_recent": timedelta(minutes=2),
    "chroma_call_durations": SHORT,
    "embedding_durations": SHORT,
    "cache_events": LONG,
    "recent_cache_events": SHORT,
    "query_durations_by_cache": LONG,
    "embedding_calls": FEW,
    "embedding_errors": FEW,
    "embedding_seconds": FEW,
    "memory_errors": LONG,
    "requests": SHORT,
    ANSWERS: SHORT,
    DATABASE_TROUBLE: SHORT,
}
"""Of what is counted: how far back."""

SERIES: Final[Mapping[str, float]] = {
    "embedding_model_up": 1.0,
    "ingest_queue": 0.0,
    "probe_success": 1.0,
    "probe_duration": 0.05,
}
"""Samples of each pod, beside those that are fields of `Facts`, the memory, and what is made from the clock."""
