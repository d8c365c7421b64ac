"""How large the caches of a pod are made, and when not: the steps of the runbook (incidents 1 and 7). Pure."""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Final

from knowledgebeast_operator.core.facts import Facts, Unknown
from knowledgebeast_operator.core.memory_pressure import killed_since
from knowledgebeast_operator.core.memory_views import MIB, PodMemory, pods_memory
from knowledgebeast_operator.core.overlays import put
from knowledgebeast_operator.core.runbook import Applicable, NotApplicable, Pause
from knowledgebeast_operator.custom_resource.spec import Cache

QUERY: Final = "query"
EMBEDDING: Final = "embedding"

FIELDS: Final[Mapping[str, str]] = {QUERY: "cache.queryEntries", EMBEDDING: "cache.embeddingEntries"}

STEPS: Final[Mapping[str, tuple[int, ...]]] = {
    QUERY: (100, 500, 2_500, 10_000),
    EMBEDDING: (1_000, 5_000, 10_000, 50_000),
}

MOST_OF_LIMIT: Final = 0.85
"""After the growth that is expected; the rest is for requests and documents in flight."""

FULL_WITHIN: Final = timedelta(hours=4)
"""Memory that is heading for its limit this soon is an incident of its own, and no cache grows meanwhile."""

BUDGET_SHARES: Final[Mapping[str, float]] = {QUERY: 0.75, EMBEDDING: 0.25}
"""How the service divides maxMemoryMB."""

NEARLY_ALL: Final = 0.95


def entries(cache: Cache, which: str) -> int:
    """The size in force."""
    return cache.query_entries if which == QUERY else cache.embedding_entries


def next_step(which: str, size: int) -> int | None:
    """The next larger size; None at the largest, and for a cache that is turned off."""
    return next((step for step in STEPS[which] if step > size), None) if size > 0 else None


def enlarge(facts: Facts, which: Iterable[str], window: timedelta) -> Applicable | NotApplicable | Pause:
    """One step up for these caches, live, with the old sizes as its inverse; or why not."""
    cache = facts.effective_spec.cache
    steps = {one: step for one in which if (step := next_step(one, entries(cache, one))) is not None}
    if not steps:
        sizes = f"{cache.query_entries} answers and {cache.embedding_entries} embeddings"
        return NotApplicable("LargestSize", f"The caches are not made larger than they are: {sizes}.")
    killed = killed_since(facts, facts.now - window)
    if killed:
        return NotApplicable("MemoryPressure", f"{killed[0].name} was killed for its memory, so no cache grows.")
    pods = pods_memory(facts)
    if isinstance(pods, Unknown):
        return Pause(pods.reason, f"Whether there is memory for larger caches is unknown. {pods.message}", _soon(facts))
    factors = {one: step / entries(cache, one) for one, step in steps.items()}
    refusal = next((why for pod in pods if (why := _no_room(pod, factors, cache, window)) is not None), None)
    if refusal is not None:
        return refusal
    action, inverse = put(facts.itself, facts.overlays, {FIELDS[one]: step for one, step in steps.items()})
    return Applicable(action, inverse=inverse)


def _no_room(pod: PodMemory, factors: Mapping[str, float], cache: Cache, window: timedelta) -> NotApplicable | None:
    """Why the pod has no memory for caches that are larger by these factors."""
    budgets = {one: BUDGET_SHARES[one] * cache.max_memory_mb * MIB for one in factors}
    bound = next((one for one in factors if pod.cache_bytes.get(one, 0.0) >= NEARLY_ALL * budgets[one]), None)
    if bound is not None:
        return NotApplicable(
            "BoundByMemory",
            f"The {bound} cache of {pod.pod} holds {_mib(pod.cache_bytes[bound])} of {_mib(budgets[bound])}, its part "
            "of spec.cache.maxMemoryMB, so more entries would not be kept. Raise it.",
        )
    full_in = pod.full_in(window)
    if full_in is not None and full_in <= FULL_WITHIN:
        return NotApplicable(
            "MemoryPressure",
            f"The memory of {pod.pod} grows and is full in {full_in.total_seconds() / 3600:.1f} h, so no cache grows.",
        )
    held = {one: pod.cache_bytes.get(one, 0.0) for one in factors}
    growth = sum(min(held[one] * (factor - 1), budgets[one] - held[one]) for one, factor in factors.items())
    if pod.anon + growth > MOST_OF_LIMIT * pod.limit:
        return NotApplicable(
            "NoMemory",
            f"Larger caches would take {_mib(growth)} more, and {pod.pod} holds {_mib(pod.anon)} of {_mib(pod.limit)} "
            f"(at most {MOST_OF_LIMIT:.0%} afterwards). Raise spec.service.resources.limits.memory.",
        )
    return None


def _soon(facts: Facts) -> timedelta:
    return 3 * facts.scrape_interval


def _mib(size: float) -> str:
    return f"{size / MIB:.0f} MiB"
