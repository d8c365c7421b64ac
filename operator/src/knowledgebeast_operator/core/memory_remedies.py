"""What gives a service memory back: smaller caches, smaller documents, a higher limit. Pure. (Runbook, incident 3.)"""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from pydantic import JsonValue

from knowledgebeast_operator.core.cache_sizes import EMBEDDING, FIELDS, QUERY
from knowledgebeast_operator.core.facts import Facts, Unknown
from knowledgebeast_operator.core.load import node_load
from knowledgebeast_operator.core.memory_views import MIB, PodMemory
from knowledgebeast_operator.core.overlays import put
from knowledgebeast_operator.core.runbook import Applicable, NotApplicable
from knowledgebeast_operator.custom_resource.units import parse_bytes

MEMORY_FIELD: Final = "service.resources.limits.memory"
BUDGET_FIELD: Final = "cache.maxMemoryMB"
DOCUMENT_FIELD: Final = "service.config.maxDocumentSizeMB"

MOST: Final[Mapping[str, int]] = {FIELDS[QUERY]: 1000, FIELDS[EMBEDDING]: 5000, BUDGET_FIELD: 2048}
"""QUERY_CACHE_SIZE, EMBEDDING_CACHE_SIZE and MAX_CACHE_MEMORY_MB of the runbook."""

SHARE_AIMED_AT: Final = 0.5
"""Of the limit, with the caches in it."""

LIMIT_STEP: Final = 1.5
MOST_OF_SPEC: Final = 2
FULLEST_NODE: Final = 0.85

SMALLEST_BUDGET: Final = 16
DOCUMENT_SIZES: Final = (50, 25, 10)
"""MAX_DOCUMENT_SIZE_MB: the runbook's, then its halves, for an object that has the runbook's already."""


def limit_caches(facts: Facts, fullest: PodMemory) -> Applicable | NotApplicable:
    """3A: the runbook's bounds, and a budget with which the pod uses half of its limit; live."""
    cache = facts.effective_spec.cache
    beside = fullest.anon - fullest.cached
    budget = max(SMALLEST_BUDGET, int((SHARE_AIMED_AT * fullest.limit - beside) / MIB))
    present = {FIELDS[QUERY]: cache.query_entries, FIELDS[EMBEDDING]: cache.embedding_entries}
    present[BUDGET_FIELD] = cache.max_memory_mb
    wanted = {**MOST, BUDGET_FIELD: min(budget, MOST[BUDGET_FIELD])}
    lower: dict[str, JsonValue] = {path: wanted[path] for path, size in present.items() if wanted[path] < size}
    if not lower:
        return NotApplicable("CachesLimited", f"The caches are bounded already ({cache.max_memory_mb} MiB at most).")
    action, inverse = put(facts.itself, facts.overlays, lower)
    return Applicable(action, inverse=inverse)


def limit_documents(facts: Facts) -> Applicable | NotApplicable:
    """3C: the next smaller size of a document that is accepted."""
    present = facts.effective_spec.service.config.max_document_size_mb
    smaller = next((size for size in DOCUMENT_SIZES if size < present), None)
    if smaller is None:
        return NotApplicable("SmallestDocuments", f"Documents are limited to {present} MiB already.")
    action, inverse = put(facts.itself, facts.overlays, {DOCUMENT_FIELD: smaller})
    return Applicable(action, inverse=inverse)


def next_limit(asked: str, present: str) -> str | None:
    """The limit one step up, in Mi; None when it is as high as it gets by itself.

    Args:
        asked: what the spec says, such as `2Gi`.
        present: what is in force.
    """
    most = MOST_OF_SPEC * parse_bytes(asked)
    if parse_bytes(present) >= most:
        return None
    return f"{int(min(LIMIT_STEP * parse_bytes(present), most)) // MIB}Mi"


def raise_limit(facts: Facts) -> Applicable | NotApplicable:
    """3T: half as much memory again, at most twice what the spec says, if every node has room for its pods' share."""
    asked, present = facts.spec.service.resources.limits.memory, facts.effective_spec.service.resources.limits.memory
    wanted = next_limit(asked, present)
    if wanted is None:
        message = f"The limit is {present} already, twice what the spec says. Find the leak, or raise the spec's."
        return NotApplicable("LimitRaisedBefore", message)
    if isinstance(facts.service_pods, Unknown):
        return NotApplicable(facts.service_pods.reason, facts.service_pods.message)
    more = parse_bytes(wanted) - parse_bytes(present)
    on_nodes = Counter(pod.node for pod in facts.service_pods.value if pod.node is not None)
    refusals = (_no_room(facts, node, pods * more, wanted) for node, pods in sorted(on_nodes.items()))
    refusal = next((why for why in refusals if why is not None), None)
    if refusal is not None:
        return refusal
    action, inverse = put(facts.itself, facts.overlays, {MEMORY_FIELD: wanted})
    return Applicable(action, inverse=inverse)


def _no_room(facts: Facts, node: str, more: float, wanted: str) -> NotApplicable | None:
    load = node_load(facts, node)
    if isinstance(load, Unknown):
        return NotApplicable(load.reason, f"Whether node {node} has room for {wanted} is unknown. {load.message}")
    share = load.memory_share_with(more)
    if share <= FULLEST_NODE:
        return None
    message = f"With a limit of {wanted} node {node} could become {share:.0%} full ({FULLEST_NODE:.0%} at most)."
    return NotApplicable("NodeFull", message)
