"""What is done about a slow Chroma (1B, 1P) and a slow model (1D), and when they are not the cause. Pure."""

import math
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from knowledgebeast_operator.core.actions import RollingRestart, RunTask, Target
from knowledgebeast_operator.core.components import COMPONENTS
from knowledgebeast_operator.core.disk_views import AVAILABLE, VOLUME_AVAILABLE
from knowledgebeast_operator.core.facts import Facts, Pod, Unknown
from knowledgebeast_operator.core.heard import each_pod, number, on_node
from knowledgebeast_operator.core.histogram import Histogram
from knowledgebeast_operator.core.integrity import database_task
from knowledgebeast_operator.core.latency_views import (
    CHROMA,
    CHROMA_CALLS,
    EMBEDDING,
    EMBEDDINGS,
    FEWEST_CALLS,
    P95,
    Durations,
    durations,
    is_slower,
    shown,
)
from knowledgebeast_operator.core.ledger import Journal
from knowledgebeast_operator.core.load import NODE_CPU, NODE_CPU_SHARE, Load
from knowledgebeast_operator.core.runbook import Applicable, Consideration, Detected, Limits, NotApplicable, Pause
from knowledgebeast_operator.core.scaling import SOME_PODS_SLOW, exhausted, tried_in_vain
from knowledgebeast_operator.core.series import fresh_series
from knowledgebeast_operator.custom_resource import format_duration
from knowledgebeast_operator.custom_resource.names import CHROMA as CHROMA_VOLUME

GIB: Final = 1024**3

RESTART_CHROMA: Final = "RestartChroma"
RESTART_SLOW_PODS: Final = "RestartSlowPods"
PARTITION: Final = "partition-collection"
RETURN: Final = "return-collection"

KEYWORD_INDEX: Final = "keyword_index"

VECTORS: Final = "collection_vectors"
"""Rows by pod and project: vectors that are stored."""

MODEL_LOADS_WITHIN: Final = timedelta(minutes=3)
"""A pod that started less long ago may still be loading its model and filling its caches."""

PART: Final = 0.5
"""Parts are made so small that each holds this share of what a collection may hold."""

MOST_PARTS: Final = 64

VECTOR_BYTES: Final = 4096
"""On Chroma's volume, generously: 384 floats, their links, and the row with the text."""


def chroma_is_not_the_cause(facts: Facts, detected: Detected, limits: Limits) -> NotApplicable | None:
    """Why Chroma is not what makes queries slow, or must not be away now; None when it may be restarted."""
    if detected.reason == SOME_PODS_SLOW:
        return NotApplicable("OnlySomePods", "Chroma answers all pods, and only some are slow.")
    calls = durations(facts, CHROMA_CALLS, CHROMA)
    if isinstance(calls, Unknown):
        return NotApplicable(calls.reason, f"How fast Chroma is is unknown: {calls.message}")
    most = limits.threshold("chromaP95Milliseconds")
    if not is_slower(calls.all, most):
        return _fast_enough("Chroma", calls.all, most)
    embeddings = durations(facts, EMBEDDINGS, EMBEDDING)
    if isinstance(embeddings, Durations) and _p95(embeddings) > _p95(calls):
        return NotApplicable("ModelSlower", f"The model is slower than Chroma: {shown(embeddings.all, 1 - P95)}.")
    busy = exhausted(facts, limits)
    if isinstance(busy, Load):
        message = f"The service pods use {busy.cpu_share:.0%} of their CPU, so every call that they time is slow."
        return NotApplicable("ServiceBusy", message)
    if busy.reason != "NotExhausted":
        return busy
    return _node_is_busy(facts, limits) or _no_keyword_search(facts)


def consider_rolling_restart(facts: Facts, detected: Detected, journal: Journal, limits: Limits) -> Consideration:
    """1D: the pods whose model is slow, one after the other; not for want of CPU, nor while a model is being loaded."""
    found = durations(facts, EMBEDDINGS, EMBEDDING)
    if isinstance(found, Unknown):
        return NotApplicable(found.reason, f"How fast the model is is unknown: {found.message}")
    most = limits.threshold("embeddingP95Milliseconds")
    slow = [pod for pod, one in found.by_pod.items() if is_slower(one, most)]
    if not slow:
        return _fast_enough("Model", found.all, most)
    busy = exhausted(facts, limits)
    if isinstance(busy, Load):
        return NotApplicable("ServiceBusy", "The model is slow for want of CPU, which a restart does not give.")
    if busy.reason != "NotExhausted":
        return busy
    return tried_in_vain(journal, RESTART_SLOW_PODS, facts) or _replace(facts, slow)


def consider_partition(facts: Facts, detected: Detected, journal: Journal, limits: Limits) -> Consideration:
    """1P: the largest collection, when it is too large; a person has to allow it.

    It has no inverse: the task swaps only what finds as much as before, and the old collection stays for a while.
    """
    refusal = chroma_is_not_the_cause(facts, detected, limits) or tried_in_vain(journal, "PartitionCollection", facts)
    if refusal is not None:
        return refusal
    largest, most = largest_collection(facts), limits.threshold("partitionVectors")
    if isinstance(largest, Unknown):
        return NotApplicable(largest.reason, f"How large the collections are is unknown: {largest.message}")
    project, size = largest
    if size <= most:
        return NotApplicable(
            "CollectionsSmall", f"No collection is too large: {project} has {size:.0f} of {most:.0f} vectors."
        )
    if (refusal := _no_space(facts, size)) is not None:
        return refusal
    parts, arguments = min(MOST_PARTS, math.ceil(size / (PART * most))), ("--project", project)
    found = database_task(facts, RunTask, PARTITION, (*arguments, "--parts", str(parts)))
    if isinstance(found, Pause):
        return found
    return replace(
        found,
        needs_approval=f"Project {project} has {size:.0f} vectors. They are copied into {parts} new collections, which "
        "takes as much of Chroma's volume again until the old one is dropped; until then `knowledgebeast maintain "
        f"{RETURN} --project {project}` goes back to it.",
    )


def _fast_enough(who: str, calls: Histogram, milliseconds: float) -> NotApplicable:
    if calls.total < FEWEST_CALLS:
        message = f"{who}: {calls.total:.0f} calls in the window, too few to tell whether it is slow."
        return NotApplicable("FewCalls", message)
    return NotApplicable(f"{who}Fast", f"{who}: {shown(calls, 1 - P95)}, which is fast enough ({milliseconds:.0f} ms).")


def _no_keyword_search(facts: Facts) -> NotApplicable | None:
    """It alone answers while Chroma is away."""
    found = each_pod(
        facts,
        COMPONENTS,
        "kb_component_up",
        lambda rows: number(tuple(r for r in rows if r.labels.get("component") == KEYWORD_INDEX), "kb_component_up"),
    )
    if isinstance(found, Unknown):
        return NotApplicable(found.reason, f"Whether keyword search works is unknown: {found.message}")
    if min(found.value.values()) < 1:
        return NotApplicable("KeywordSearchDown", "Keyword search does not work, so Chroma must not be away.")
    return None


def _node_is_busy(facts: Facts, limits: Limits) -> NotApplicable | None:
    """A node without CPU to spare makes Chroma slow, whatever is done to it."""
    if isinstance(facts.chroma_pods, Unknown):
        return NotApplicable(facts.chroma_pods.reason, facts.chroma_pods.message)
    node = next((pod.node for pod in facts.chroma_pods.value if pod.node is not None), "")
    share, most = on_node(facts.rows(NODE_CPU_SHARE), NODE_CPU, node), limits.threshold("nodePercent") / 100
    if isinstance(share, Unknown):
        return NotApplicable(share.reason, f"Whether Chroma's node is busy is unknown: {share.message}")
    if share > most:
        return NotApplicable(
            "NodeBusy", f"Node {node} uses {share:.0%} of its CPU, which a restart of Chroma does not change."
        )
    return None


def largest_collection(facts: Facts) -> tuple[str, float] | Unknown:
    """The project with most vectors, as the pod that counts most has them, and how many these are."""
    rows = facts.rows(VECTORS)
    if isinstance(rows, Unknown):
        return rows
    found = [(row.labels.get("project", ""), row.value) for row in rows.value if math.isfinite(row.value)]
    if not found:
        return Unknown("kb_collection_vectors", "SeriesMissing", "kb_collection_vectors says nothing of any project.")
    return max(found, key=lambda one: one[1])


def _no_space(facts: Facts, size: float) -> NotApplicable | None:
    """Twice the collection has to be free on Chroma's volume: the old one stays for a while."""
    if isinstance(facts.volumes, Unknown):
        return NotApplicable(facts.volumes.reason, facts.volumes.message)
    volume = facts.volumes.value.get(CHROMA_VOLUME)
    if volume is None:
        return NotApplicable("ClaimMissing", "Chroma has no claim yet.")
    samples = fresh_series(facts.series(VOLUME_AVAILABLE), AVAILABLE, volume.claim, facts)
    if isinstance(samples, Unknown):
        return NotApplicable(samples.reason, f"How much of Chroma's volume is free is unknown: {samples.message}")
    free = samples.value[-1].value
    needed = 2 * size * VECTOR_BYTES
    if free < needed:
        message = f"Claim {volume.claim} has {free / GIB:.1f} GiB free, and dividing takes {needed / GIB:.1f} GiB."
        return NotApplicable("NoSpace", message)
    return None


def _replace(facts: Facts, slow: list[str]) -> Consideration:
    if isinstance(facts.service_pods, Unknown):
        return NotApplicable(facts.service_pods.reason, facts.service_pods.message)
    if isinstance(facts.service_workload, Unknown):
        return NotApplicable(facts.service_workload.reason, facts.service_workload.message)
    pods = [pod for pod in facts.service_pods.value if pod.name in slow]
    loading = next((pod.name for pod in pods if facts.now - _started(pod) < MODEL_LOADS_WITHIN), None)
    if loading is not None:
        message = (
            f"Pod {loading} started less than {format_duration(MODEL_LOADS_WITHIN)} ago and may be loading its model."
        )
        return NotApplicable("ModelLoading", message)
    targets = tuple(Target(kind="Pod", name=pod.name, uid=pod.uid) for pod in pods)
    return Applicable(RollingRestart(target=facts.service_workload.value, pods=targets))


def _started(pod: Pod) -> datetime:
    return (pod.container.started_at if pod.container is not None else None) or pod.created_at


def _p95(found: Durations) -> float:
    return found.all.quantile(1 - P95) or 0.0
