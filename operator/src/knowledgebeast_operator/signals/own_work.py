"""What the operator or the cluster is doing to an object right now, so that its symptoms open no incident.

A rollout counts until its revision is reached, also when it is stuck: which faults outlast it is the runbook's matter.
"""

from collections.abc import Iterable
from datetime import datetime

from knowledgebeast_operator.cluster.objects import LiveOperand
from knowledgebeast_operator.core.facts import Node, OwnWork
from knowledgebeast_operator.core.ledger import IncidentRecord
from knowledgebeast_operator.custom_resource.names import CHROMA, COMPONENT_LABEL, SERVICE
from knowledgebeast_operator.signals.cluster import ObservedPod


def own_work(
    *,
    pods: Iterable[ObservedPod],
    operands: Iterable[LiveOperand],
    nodes: dict[str, Node],
    incidents: Iterable[IncidentRecord],
    now: datetime,
) -> tuple[OwnWork, ...]:
    """Rollouts, drains, resizes and restarts under way."""
    present = tuple(pods)
    return (
        *_rollouts(operands, present),
        *_drains(present, nodes, now),
        *_resizes(operands),
        *_restarts(incidents),
    )


def _rollouts(operands: Iterable[LiveOperand], pods: tuple[ObservedPod, ...]) -> Iterable[OwnWork]:
    for operand in operands:
        component = operand.metadata.labels.get(COMPONENT_LABEL, SERVICE)
        of_component = [item for item in pods if item.component == component]
        if operand.is_rolling_out:
            since = max((item.pod.created_at for item in of_component), default=operand.metadata.creation_timestamp)
            yield OwnWork("Rollout", component, f"{operand.kind} {operand.metadata.name} is being rolled out", since)


def _drains(pods: tuple[ObservedPod, ...], nodes: dict[str, Node], now: datetime) -> Iterable[OwnWork]:
    for item in pods:
        node = nodes.get(item.pod.node or "")
        if item.pod.is_terminating and node is not None and node.is_cordoned:
            # A pod that does not go must not count as a drain for ever.
            since = min(item.gone_by or now, now)
            yield OwnWork("Drain", item.component, f"node {node.name} is being drained", since)


def _resizes(operands: Iterable[LiveOperand]) -> Iterable[OwnWork]:
    for operand in operands:
        if operand.resizing_since is not None:
            component = operand.metadata.labels.get(COMPONENT_LABEL, SERVICE)
            yield OwnWork("Resize", component, f"claim {operand.metadata.name} is growing", operand.resizing_since)


def _restarts(incidents: Iterable[IncidentRecord]) -> Iterable[OwnWork]:
    for incident in incidents:
        attempt = incident.attempt_in_flight
        if attempt is not None:
            yield OwnWork("Restart", CHROMA, f"{attempt.action.describe()} ({attempt.id})", attempt.started)
