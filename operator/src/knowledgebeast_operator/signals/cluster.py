"""From live pods and nodes to the core's facts. Pure; `cluster.watched` keeps what the watches have shown."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from knowledgebeast_operator.cluster.objects import Condition, ContainerStatus, LiveNode, LivePod
from knowledgebeast_operator.core.facts import Container, Node, Pod
from knowledgebeast_operator.custom_resource.names import POD_TEMPLATE_ANNOTATION

SOONEST_LOSS: Final = timedelta(seconds=5)
"""A container needs longer than this to become ready and then fail its probes. What the kubelet notes sooner is the
end of the container before it."""

REVISION_LABELS: Final = ("pod-template-hash", "controller-revision-hash")
"""Of a Deployment's pods, and of a StatefulSet's."""


@dataclass(frozen=True, slots=True)
class ObservedPod:
    """A pod as the core sees it, whose it is (service or chroma), and by when it was to be gone."""

    pod: Pod
    component: str
    gone_by: datetime | None = None


def observe_pod(live: LivePod, component: str) -> ObservedPod:
    """The part of a pod that the runbooks look at. The main container is named like the component."""
    conditions = {condition.type: condition for condition in live.status.conditions}
    ready, scheduled = conditions.get("Ready"), conditions.get("PodScheduled")
    statuses = live.status.container_statuses
    main = next((status for status in statuses if status.name == component), statuses[0] if statuses else None)
    labels = live.metadata.labels
    is_unschedulable = scheduled is not None and scheduled.status == "False"
    pod = Pod(
        name=live.metadata.name,
        uid=live.metadata.uid,
        node=live.spec.node_name,
        created_at=live.metadata.creation_timestamp,
        is_ready=ready is not None and ready.status == "True",
        is_terminating=live.metadata.deletion_timestamp is not None,
        unschedulable_message=scheduled.message if scheduled and is_unschedulable else None,
        container=_container(main) if main else None,
        has_lost_readiness=_has_lost_readiness(ready, main),
        address=live.status.pod_ip,
        revision=next((labels[label] for label in REVISION_LABELS if label in labels), ""),
        image=next((item.image for item in live.spec.containers if item.name == component), ""),
        pod_template=live.metadata.annotations.get(POD_TEMPLATE_ANNOTATION, ""),
    )
    return ObservedPod(pod, component, live.metadata.deletion_timestamp)


def _has_lost_readiness(ready: Condition | None, main: ContainerStatus | None) -> bool:
    """Whether the change to not ready came after the start of the container that runs now."""
    if ready is None or ready.status != "False" or ready.last_transition_time is None or main is None:
        return False
    started_at = main.state.running.started_at if main.state.running else None
    return started_at is not None and ready.last_transition_time - started_at > SOONEST_LOSS


def _container(status: ContainerStatus) -> Container:
    running, waiting = status.state.running, status.state.waiting
    last = status.state.terminated or status.last_state.terminated
    return Container(
        is_running=running is not None,
        started_at=running.started_at if running else None,
        restart_count=status.restart_count,
        waiting_reason=waiting.reason if waiting else None,
        waiting_message=waiting.message if waiting else None,
        last_exit_code=last.exit_code if last else None,
        last_exit_reason=last.reason if last else None,
        last_finished_at=last.finished_at if last else None,
        image=status.image,
    )


def observe_node(live: LiveNode) -> Node:
    """A node's health. Status Unknown of its Ready condition means that its kubelet is silent."""
    ready = next((condition.status for condition in live.status.conditions if condition.type == "Ready"), "Unknown")
    is_ready = {"True": True, "False": False}.get(ready)
    return Node(name=live.metadata.name, is_ready=is_ready, is_cordoned=live.spec.unschedulable)
