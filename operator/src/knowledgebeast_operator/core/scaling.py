"""What is done about too few pods: more of them (1C), or, where that does not help, less load (1S). Pure."""

import math
from datetime import timedelta
from typing import Final

from knowledgebeast_operator.core import journal as journals
from knowledgebeast_operator.core.facts import Facts, Unknown
from knowledgebeast_operator.core.ledger import Attempt, Journal, Outcome
from knowledgebeast_operator.core.load import Load, node_load, nodes_of_service, service_load
from knowledgebeast_operator.core.overlays import FieldOverlay, put
from knowledgebeast_operator.core.runbook import Applicable, Consideration, Detected, Limits, NotApplicable

SOME_PODS_SLOW: Final = "SomePodsSlow"
"""Reason of a diagnosis: some pods are slow and the others are clear of it."""

REPLICAS: Final = "service.replicas"
RATE_LIMIT: Final = "service.config.rateLimitPerMinute"

SCALE_OUT: Final = "ScaleOut"
SHED_LOAD: Final = "ShedLoad"

AT_MAX_REPLICAS: Final = "AtMaxReplicas"
NODE_FULL: Final = "NodeFull"
DID_NOT_HELP: Final = "DidNotHelp"
NEEDS_A_HUMAN: Final = frozenset({AT_MAX_REPLICAS, NODE_FULL, DID_NOT_HELP})
"""Refusals of 1C that neither time nor the operator changes."""

NOT_AGAIN_WITHIN: Final = timedelta(hours=1)

LOWEST_RATE_LIMIT: Final = 10
SHED_FOR: Final = timedelta(minutes=15)
"""A rate limit that is lifted sooner lets the same load in again."""


def consider_scale_out(facts: Facts, detected: Detected, journal: Journal, limits: Limits) -> Consideration:
    """1C: one more pod, or as many as the measured work needs, up to maxReplicas."""
    load = exhausted(facts, limits)
    if isinstance(load, NotApplicable):
        return load
    if detected.reason == SOME_PODS_SLOW:
        return NotApplicable("OnlySomePods", "More pods do not help where only some are slow.")
    spec = facts.effective_spec.service
    if spec.replicas >= spec.max_replicas:
        message = (
            f"There are {spec.replicas} pods, as many as spec.service.maxReplicas allows: raise it or the CPU limit."
        )
        return NotApplicable(AT_MAX_REPLICAS, message)
    refusal = (
        tried_in_vain(journal, SCALE_OUT, facts) or _pods_missing(facts, spec.replicas) or _no_room(facts, load, limits)
    )
    if refusal is not None:
        return refusal
    needed = math.ceil(load.cores / (load.cores_of_one * limits.threshold("scaleTargetPercent") / 100))
    replicas = min(max(spec.replicas + 1, needed), spec.max_replicas)
    action, inverse = put(facts.itself, facts.overlays, {REPLICAS: replicas})
    return Applicable(action, inverse=inverse)


def consider_shed_load(facts: Facts, detected: Detected, journal: Journal, limits: Limits) -> Consideration:
    """1S: half of the requests per client, where more pods cannot be had or did not help."""
    load = exhausted(facts, limits)
    if isinstance(load, NotApplicable):
        return load
    if detected.reason == SOME_PODS_SLOW:
        return NotApplicable("OnlySomePods", "Less load for all does not help where only some pods are slow.")
    if not isinstance(consider_scale_out(facts, detected, journal, limits), NotApplicable):
        return NotApplicable("ScaleFirst", "More pods are tried before load is shed.")
    present = facts.effective_spec.service.config.rate_limit_per_minute
    if present == 0:
        message = "Load cannot be shed: spec.service.config.rateLimitPerMinute is 0, which is no limit."
        return NotApplicable("NoRateLimit", message)
    if present <= LOWEST_RATE_LIMIT:
        return NotApplicable("AtLowestRateLimit", f"The rate limit is {present} a minute already.")
    action, inverse = put(facts.itself, facts.overlays, {RATE_LIMIT: max(LOWEST_RATE_LIMIT, present // 2)})
    return tried_in_vain(journal, SHED_LOAD, facts) or Applicable(action, inverse=inverse)


def cannot_scale_out(facts: Facts, attempts: tuple[Attempt, ...], limits: Limits) -> NotApplicable | None:
    """Why more pods cannot be had or did not help, when they are what is missing: a person has to give it more."""
    found = consider_scale_out(facts, Detected("", "", timedelta(0)), Journal(attempts=attempts), limits)
    return found if isinstance(found, NotApplicable) and found.reason in NEEDS_A_HUMAN else None


def exhausted(facts: Facts, limits: Limits) -> Load | NotApplicable:
    """The load of the service pods if it is beyond what they may use; otherwise why it does not explain anything.

    The reason is NotExhausted when that is known.
    """
    load = service_load(facts)
    if isinstance(load, Unknown):
        return NotApplicable(load.reason, f"How busy the service pods are is unknown: {load.message}")
    cpu, memory = limits.threshold("cpuPercent") / 100, limits.threshold("memoryPercent") / 100
    if load.cpu_share <= cpu and load.memory_share <= memory:
        message = (
            f"The service pods use {load.cpu_share:.0%} of their CPU and {load.memory_share:.0%} of their memory, so "
            "more of them would not be faster."
        )
        return NotApplicable("NotExhausted", message)
    return load


def release(facts: Facts, path: str, overlay: FieldOverlay, limits: Limits) -> str | None:
    """Replicas go back when fewer pods would stay well below their limits, the rate limit when there is CPU to spare.

    Nothing ends on what is not known. A larger cache stays until somebody sets the field.
    """
    load = service_load(facts)
    if isinstance(load, Unknown):
        return None
    most = limits.threshold("scaleTargetPercent") / 100
    if path == REPLICAS and isinstance(overlay.instead_of, int):
        cpu, memory = load.cpu_share_with(overlay.instead_of), load.memory_share_with(overlay.instead_of)
        if cpu < most and memory < most:
            return (
                f"{overlay.instead_of} pods would use {cpu:.0%} of their CPU and at most {memory:.0%} of their memory"
            )
    if path == RATE_LIMIT and facts.now - overlay.at >= SHED_FOR and load.cpu_share < most:
        return f"the service pods use {load.cpu_share:.0%} of their CPU"
    return None


def tried_in_vain(journal: Journal, option: str, facts: Facts) -> NotApplicable | None:
    """The same did not help a short while ago."""
    tried = [
        attempt
        for attempt in journals.actions_since(journal, facts.now - NOT_AGAIN_WITHIN)
        if attempt.option == option and attempt.outcome in (Outcome.FAILED, Outcome.UNDONE)
    ]
    if not tried:
        return None
    last = tried[-1]
    message = f"{option} was tried at {last.started:%H:%M:%S %Z} and did not help: {last.message}"
    return NotApplicable(DID_NOT_HELP, message)


def _no_room(facts: Facts, load: Load, limits: Limits) -> NotApplicable | None:
    """Why no node on which service pods can run could carry another one."""
    nodes = nodes_of_service(facts)
    if isinstance(nodes, Unknown):
        return NotApplicable(nodes.reason, nodes.message)
    most = limits.threshold("nodePercent") / 100
    refusal = NotApplicable("NodesUnknown", "No service pod is on a node.")
    for name in nodes:
        node = node_load(facts, name)
        if isinstance(node, Unknown):
            refusal = NotApplicable(node.reason, f"Whether node {name} has room is unknown: {node.message}")
            continue
        memory = node.memory_share_with(load.largest)
        if node.cpu_share <= most and memory <= most:
            return None
        message = (
            f"Node {name} has no room for another pod: {node.cpu_share:.0%} of its CPU is in use, and its memory would "
            f"be {memory:.0%} full (limit {most:.0%}). Add CPU or memory to it, or move what else runs there."
        )
        refusal = NotApplicable(NODE_FULL, message)
    return refusal


def _pods_missing(facts: Facts, replicas: int) -> NotApplicable | None:
    """Pods that were asked for and are not there help nobody, nor does asking for more of them."""
    if isinstance(facts.service_pods, Unknown):
        return NotApplicable(facts.service_pods.reason, facts.service_pods.message)
    ready = [pod for pod in facts.service_pods.value if pod.is_ready and not pod.is_terminating]
    if len(ready) >= replicas:
        return None
    waiting = next((pod for pod in facts.service_pods.value if pod.unschedulable_message is not None), None)
    why = f" Pod {waiting.name} cannot be scheduled ({waiting.unschedulable_message})." if waiting is not None else ""
    return NotApplicable("PodsNotReady", f"{len(ready)} of {replicas} service pods are ready.{why}")
