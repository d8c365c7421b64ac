"""What the operator or the cluster is doing to an object right now, so that its symptoms open no incident.

A rollout counts until its revision is reached, also when it is stuck: which faults outlast it is the runbook's matter.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from knowledgebeast_operator.cluster.objects import LiveOperand, LivePod
from knowledgebeast_operator.core.actions import (
    PutFields,
    RestartPod,
    RollingRestart,
    RunFencedTask,
    RunTask,
    SetFields,
)
from knowledgebeast_operator.core.facts import Node, OwnWork
from knowledgebeast_operator.core.journal import is_awaiting_approval
from knowledgebeast_operator.core.ledger import Attempt, IncidentRecord
from knowledgebeast_operator.custom_resource.names import (
    ATTEMPT_LABEL,
    COMPONENT_LABEL,
    MAINTENANCE,
    SERVICE,
    TASK_LABEL,
)
from knowledgebeast_operator.operands.cron_jobs import BACKUP, CHECK, CLEAN, DRILL
from knowledgebeast_operator.signals.cluster import ObservedPod

LASTING: Final = frozenset({BACKUP, CHECK, DRILL, CLEAN})
"""Warming is over in a moment, and whoever disturbs it loses nothing."""


def own_work(
    *,
    pods: Iterable[ObservedPod],
    operands: Iterable[LiveOperand],
    nodes: dict[str, Node],
    incidents: Iterable[IncidentRecord],
    now: datetime,
) -> tuple[OwnWork, ...]:
    """Rollouts, drains, resizes, restarts and tasks under way."""
    present = tuple(pods)
    return (
        *_rollouts(operands, present),
        *_drains(present, nodes, now),
        *_resizes(operands),
        *_attempts(incidents, now),
    )


def scheduled_tasks(pods: Iterable[LivePod]) -> tuple[OwnWork, ...]:
    """Tasks that the clock has started and that have not ended. Those of an attempt bear its label besides."""
    return tuple(
        OwnWork(
            labels[TASK_LABEL].capitalize(), MAINTENANCE, f"pod {pod.metadata.name}", pod.metadata.creation_timestamp
        )
        for pod in pods
        if (labels := pod.metadata.labels).get(TASK_LABEL) in LASTING
        and ATTEMPT_LABEL not in labels
        and not pod.is_over
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


def _attempts(incidents: Iterable[IncidentRecord], now: datetime) -> Iterable[OwnWork]:
    for incident in incidents:
        attempt = incident.attempt_in_flight
        if attempt is not None and not is_awaiting_approval(attempt):
            announced = _announced(attempt, now)
            if announced is not None:
                yield announced


def _announced(attempt: Attempt, now: datetime) -> OwnWork | None:
    """What an attempt does to whom. Without the service's pods nothing is known about anything that they tell of."""
    message = f"{attempt.action.describe()} ({attempt.id})"
    match attempt.action:
        case RestartPod(component=component):
            return OwnWork("Restart", component, message, attempt.started)
        case RollingRestart():
            return OwnWork("Restart", SERVICE, message, attempt.started)
        case SetFields() | PutFields():
            return None  # what it makes the workloads do shows as a rollout
        case RunTask(volume=volume):
            return OwnWork("Task", volume, message, attempt.started)
        case RunFencedTask():
            # However long the task takes, what it explains begins to count when the pods may come back.
            return OwnWork("Maintenance", "", message, attempt.acted or now)
