"""Why Chroma does not answer: what the cluster says about its pod, read together with what the service pods see."""

from datetime import datetime, timedelta
from typing import Final

from knowledgebeast_operator.core.chroma_views import Views, is_closed
from knowledgebeast_operator.core.facts import Facts, Unknown
from knowledgebeast_operator.core.runbook import Limits
from knowledgebeast_operator.core.workload import STARTUP, Finding, PodState, examine

READINESS_TAKES: Final = timedelta(seconds=25)
"""The readiness probe (every 5 s, 3 s, 3 failures) has noticed a Chroma whose heartbeat does not answer."""

ASKED_WITHIN: Final = timedelta(minutes=2)
"""An open breaker asks again within its longest wait (30 s by default); after this its silence counts, too."""

MEMORY_FIELD: Final = "spec.chroma.resources.limits.memory"


def find_cause(facts: Facts) -> Finding | Unknown:
    """What the cluster says about Chroma's pod."""
    if isinstance(facts.chroma_pods, Unknown):
        return facts.chroma_pods
    if isinstance(facts.nodes, Unknown):
        return facts.nodes
    return examine(facts.chroma_pods.value, facts.nodes.value, now=facts.now, memory_field=MEMORY_FIELD)


def reason_of(finding: Finding, views: Views, now: datetime) -> str:
    """A running Chroma: the breaker tells errors from silence, and in time the readiness probe does."""
    if finding.pod is None or finding.state not in (PodState.READY, PodState.NOT_READY):
        return finding.state
    if finding.state is PodState.NOT_READY:
        container = finding.pod.container
        started = (container.started_at if container else None) or finding.pod.created_at
        has_started = finding.pod.has_lost_readiness or now - started >= STARTUP
        return "ChromaHung" if has_started else "ChromaNotReady"
    is_reachable = is_closed(views.worst_breaker)
    return "ChromaAnswersErrors" if is_reachable or answers_heartbeat(finding, views) else "ChromaHung"


def answers_heartbeat(finding: Finding, views: Views) -> bool:
    """Whether the kubelet's probe is answered, and would have noticed by now if it were not."""
    return finding.state is PodState.READY and views.held > READINESS_TAKES


def is_asked_since_start(views: Views, finding: Finding, limits: Limits, now: datetime) -> bool:
    """Whether the verdict is about the Chroma that runs now: an open breaker asks again after up to half a minute.

    Without this a Chroma that has just become well would be restarted for the silence of its predecessor.
    """
    container = finding.pod.container if finding.pod is not None else None
    if container is None or container.started_at is None:
        return True
    had_time = container.started_at + limits.settle
    return views.first_round > had_time.timestamp() or now > had_time + ASKED_WITHIN
