"""What the cluster says about the one pod of a workload: the causes that a restart does not cure are told apart here.

The answers are the kubelet's, the scheduler's and the node controller's own words; nothing is guessed from symptoms.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from knowledgebeast_operator.core.facts import Container, Node, Pod
from knowledgebeast_operator.custom_resource import format_duration

IMAGE_REASONS: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)
CANNOT_START_REASONS: Final = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})

CRASH_LOOP_RESTARTS: Final = 3
"""Fewer restarts by the kubelet may still be the cure."""

OOM_RESTARTS: Final = 2
"""Out of memory once can be one large query; again and again it is the limit."""

OOM_RECENT: Final = timedelta(minutes=15)

STARTUP: Final = timedelta(seconds=60)
"""A container that has run for longer and is not ready does not start slowly: it hangs."""


class PodState(StrEnum):
    """Where the pod stands. The values are reasons of a diagnosis."""

    MISSING = "PodMissing"
    TERMINATING = "PodTerminating"
    NODE_LOST = "NodeLost"
    NODE_CORDONED = "NodeCordoned"
    UNSCHEDULABLE = "Unschedulable"
    IMAGE_UNAVAILABLE = "ImageUnavailable"
    CANNOT_START = "ContainerCannotStart"
    OUT_OF_MEMORY = "OutOfMemory"
    CRASH_LOOPING = "CrashLooping"
    RESTARTING = "ContainerRestarting"
    STARTING = "ContainerStarting"
    NOT_READY = "NotReady"
    READY = "Ready"


NEEDS_A_HUMAN: Final = frozenset(
    {
        PodState.NODE_LOST,
        PodState.NODE_CORDONED,
        PodState.UNSCHEDULABLE,
        PodState.IMAGE_UNAVAILABLE,
        PodState.CANNOT_START,
        PodState.OUT_OF_MEMORY,
        PodState.CRASH_LOOPING,
    }
)
"""States that neither waiting nor a restart changes."""

CHANGES_BY_ITSELF: Final = frozenset({PodState.MISSING, PodState.TERMINATING, PodState.RESTARTING, PodState.STARTING})
"""States in which somebody else is already at work: a controller or the kubelet."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A pod, its state, what is the matter, and what helps."""

    state: PodState
    pod: Pod | None
    message: str
    remedy: str


def examine(pods: tuple[Pod, ...], nodes: Mapping[str, Node], *, now: datetime, memory_field: str) -> Finding:
    """The state of a workload with one replica.

    Args:
        pods: its pods; while one is replaced there can be two, and the one that stays is looked at.
        nodes: the cluster's nodes by name.
        now: the moment of the facts.
        memory_field: the field of the spec that holds its memory limit, for the message.
    """
    if not pods:
        return Finding(
            PodState.MISSING,
            None,
            "It has no pod.",
            "Its controller makes a new one; if none appears, look "
            "at the events of the StatefulSet (a quota or an admission rule may refuse it).",
        )
    pod = min(pods, key=lambda pod: (pod.is_terminating, -pod.created_at.timestamp()))
    lost = _lost_node(pod, nodes)
    if lost is not None:
        return lost
    if pod.is_terminating:
        return Finding(
            PodState.TERMINATING, pod, f"Pod {pod.name} is being deleted.", "Its controller makes a new one."
        )
    if pod.unschedulable_message is not None:
        return Finding(
            PodState.UNSCHEDULABLE,
            pod,
            f"Pod {pod.name} cannot be scheduled: {pod.unschedulable_message}",
            "Make room on a node, or change the requests, the node selector or the volume's zone; "
            f"the scheduler says: {pod.unschedulable_message}",
        )
    return _examine_container(pod, pod.container, nodes, now, memory_field)


def _lost_node(pod: Pod, nodes: Mapping[str, Node]) -> Finding | None:
    if pod.node is None:
        return None
    node = nodes.get(pod.node)
    if node is not None and node.is_ready is True:
        return None
    said = "is gone" if node is None else "is not ready" if node.is_ready is False else "is silent"
    return Finding(
        PodState.NODE_LOST,
        pod,
        f"Node {pod.node} of pod {pod.name} {said}.",
        f"Bring node {pod.node} back, or delete it if it never returns, so that the volume is released and the pod can "
        "start elsewhere. Deleting the pod does not help: its kubelet cannot confirm.",
    )


def _examine_container(
    pod: Pod, container: Container | None, nodes: Mapping[str, Node], now: datetime, memory_field: str
) -> Finding:
    if container is None:
        return Finding(PodState.STARTING, pod, f"Pod {pod.name} has no container yet.", "The kubelet is starting it.")
    waiting, said = container.waiting_reason, container.waiting_message or "no message"
    if waiting in IMAGE_REASONS:
        return Finding(
            PodState.IMAGE_UNAVAILABLE,
            pod,
            f"The image {container.image} of pod {pod.name} cannot be pulled ({waiting}): {said}",
            f"Fix the image name {container.image} or the pull secret; the kubelet says: {said}",
        )
    if waiting in CANNOT_START_REASONS:
        return Finding(
            PodState.CANNOT_START,
            pod,
            f"The container of pod {pod.name} cannot be started ({waiting}): {said}",
            f"Fix what the kubelet names: {said}",
        )
    if _is_out_of_memory(container, now):
        return Finding(
            PodState.OUT_OF_MEMORY,
            pod,
            f"Pod {pod.name} ran out of memory again (OOMKilled, {container.restart_count} restarts by the kubelet).",
            f"Raise {memory_field}; a restart runs into the same limit.",
        )
    if waiting == "CrashLoopBackOff" and container.restart_count >= CRASH_LOOP_RESTARTS:
        return Finding(
            PodState.CRASH_LOOPING,
            pod,
            f"Pod {pod.name} crashes at its start (exit code {container.last_exit_code}, "
            f"{container.last_exit_reason}, {container.restart_count} restarts by the kubelet).",
            f"Read why with `kubectl logs {pod.name} --previous`; the kubelet already restarts it.",
        )
    if not container.is_running:
        state = PodState.RESTARTING if container.restart_count or container.last_finished_at else PodState.STARTING
        return Finding(
            state,
            pod,
            f"The container of pod {pod.name} is not running ({waiting or 'ended'}).",
            "The kubelet starts it.",
        )
    return _examine_running(pod, container, nodes, now)


def _examine_running(pod: Pod, container: Container, nodes: Mapping[str, Node], now: datetime) -> Finding:
    age = now - (container.started_at or pod.created_at)
    if pod.node is not None and nodes[pod.node].is_cordoned:
        return Finding(
            PodState.NODE_CORDONED,
            pod,
            f"Pod {pod.name} runs on node {pod.node}, which takes no new pods (cordoned).",
            f"Uncordon node {pod.node}, or let its drain finish: a pod deleted now could not come back to its volume.",
        )
    if pod.is_ready:
        return Finding(PodState.READY, pod, f"Pod {pod.name} is ready and has run for {format_duration(age)}.", "")
    if age < STARTUP and not pod.has_lost_readiness:
        return Finding(
            PodState.NOT_READY,
            pod,
            f"Pod {pod.name} started {format_duration(age)} ago and is not ready yet.",
            "Give it time to start.",
        )
    return Finding(
        PodState.NOT_READY, pod, f"Pod {pod.name} has run for {format_duration(age)} and is not ready.", "Restart it."
    )


def _is_out_of_memory(container: Container, now: datetime) -> bool:
    if container.last_exit_reason != "OOMKilled" or container.restart_count < OOM_RESTARTS:
        return False
    return container.last_finished_at is None or now - container.last_finished_at < OOM_RECENT
