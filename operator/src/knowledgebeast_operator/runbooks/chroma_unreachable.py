"""Incident 2: ChromaDB Unreachable (P0).

Signal
    On every ready service pod the circuit breaker has not been closed for the hold (30 s, at least three scrapes), or
    the canaries fail: fewer than 95 % of sampled chunks are found again, after the service's own three tries. The
    heartbeat alone is not asked: it stays 200 on a corrupt index. A canary loop that has stopped is unknown, not
    healthy; pods that contradict each other are unknown too.

Diagnosis
    What the kubelet, the scheduler and the node controller say about Chroma's pod: hung, not ready, answering errors,
    or something that a restart does not cure (image, scheduling, node, memory, crash loop).

Options
    2A RestartChroma: delete the pod by uid. Not while the kubelet or the StatefulSet is already replacing it, nor where
    another option fits better. 2B RepairNetwork: while the pod is ready, put back what somebody changed in our own
    Service or policies; what belongs to others is left alone, and named. 2D RebuildCollection: once a restart has not
    helped, make a collection that every service pod accuses anew from the stored vectors; the damaged one is kept for a
    while. 2E RaiseMemoryLimit (ours): killed for memory again and again, the limit goes one step up (half, at most to
    twice the spec's) if the node has room; it stays until somebody changes that field.

Verify
    On every ready service pod for three samples: canaries of a round after the attempt succeed, the breaker is closed,
    `degraded_mode` is 0. The error ratio is not worse than before. 2A: a new pod is ready. 2B: the fields are as they
    should be and an address is behind the Service; else they are put back to what they were. 2D: the task has compared
    ids, canaries and recall before it swapped, and no service pod accuses the collection any more. 2E: a pod with the
    new limit is ready.

Escalate
    Down for more than 15 minutes, keyword search failing too, or canaries failing although a restarted Chroma's
    heartbeat answers (its index may be damaged) and a rebuild did not help or no collection can be named.
"""

from datetime import datetime, timedelta
from typing import Final

from knowledgebeast_operator.core.actions import RestartPod, Target
from knowledgebeast_operator.core.chroma_cause import find_cause, is_asked_since_start, reason_of
from knowledgebeast_operator.core.chroma_escalation import THRESHOLDS, escalate
from knowledgebeast_operator.core.chroma_memory import consider_memory, verify_memory
from knowledgebeast_operator.core.chroma_network import (
    consider_network,
    explains_silence,
    network_fault,
    verify_network,
)
from knowledgebeast_operator.core.chroma_rebuild import consider_rebuild, project_to_rebuild, verify_rebuild
from knowledgebeast_operator.core.chroma_recovery import indicators, judge, no_new_pod, not_answering
from knowledgebeast_operator.core.chroma_views import (
    BREAKER,
    CANARY,
    CANARY_MINIMUM,
    CANARY_TIME,
    DEGRADED,
    Unknowns,
    Views,
    view_all,
)
from knowledgebeast_operator.core.disk_views import nearly_full
from knowledgebeast_operator.core.facts import Facts, Unknown
from knowledgebeast_operator.core.ledger import Attempt, Evidence, Journal, Severity
from knowledgebeast_operator.core.load import MACHINE_MEMORY, NODE_MEMORY
from knowledgebeast_operator.core.runbook import (
    Applicable,
    Consideration,
    Detected,
    Diagnosis,
    Limits,
    NotApplicable,
    NotDetected,
    Option,
    Pause,
    Runbook,
    Undetermined,
    Verdict,
)
from knowledgebeast_operator.core.workload import CHANGES_BY_ITSELF, NEEDS_A_HUMAN, STARTUP
from knowledgebeast_operator.custom_resource import format_duration
from knowledgebeast_operator.custom_resource.names import CHROMA

ERRORS: Final = "http_requests_total"
COLLECTIONS: Final = "kb_collection_damaged"


def diagnose(facts: Facts, limits: Limits) -> Diagnosis:
    """Bad when every ready service pod says so; good when none does; otherwise unknown."""
    views = view_all(facts)
    if isinstance(views, Unknowns):
        return Undetermined(views.reasons)
    asked, bad, held = len(views.by_pod), views.bad, views.held
    if not bad:
        return NotDetected("ChromaAnswers", f"Chroma answers {_pods(asked)}.", held)
    if len(bad) < asked:
        names = ", ".join(view.pod for view in bad)
        message = f"Chroma fails for {len(bad)} of {asked} service pods ({names}) and answers the others."
        return Undetermined((Unknown(BREAKER, "SignalsDisagree", message),))
    finding = find_cause(facts)
    if isinstance(finding, Unknown):
        return Undetermined((finding,))
    if not is_asked_since_start(views, finding, limits, facts.now):
        held = timedelta(0)
    return Detected(
        reason_of(finding, views, facts.now),
        f"Chroma does not answer {_pods(asked)}, for {format_duration(held)} at least. {finding.message}",
        held,
        _evidence(views, limits, facts.now),
        outlasts_own_work=finding.state in NEEDS_A_HUMAN,
    )


def consider_restart(facts: Facts, detected: Detected, journal: Journal, limits: Limits) -> Consideration:
    """2A: for a Chroma that runs and does not answer. Says what helps where a restart does not."""
    finding = find_cause(facts)
    if isinstance(finding, Unknown):
        return Pause(finding.reason, finding.message, limits.settle)
    full = nearly_full(facts, CHROMA)
    if full is not None:
        message = f"{full} A restart does not help; incident 5 (DiskSpaceCritical) makes room on it (2C)."
        return Pause("VolumeFull", message, limits.settle)
    pod, fault = finding.pod, network_fault(facts)
    if fault is not None and explains_silence(fault, journal):
        return NotApplicable("NetworkFault", f"A restart of Chroma does not help. {fault.message}")
    project = project_to_rebuild(facts, journal)
    if not isinstance(project, NotApplicable):
        return NotApplicable("RebuildInstead", f"A restart has not cured the collection of project {project}.")
    if finding.state in NEEDS_A_HUMAN:
        return NotApplicable(finding.state, f"A restart of Chroma does not help. {finding.remedy}")
    if finding.state in CHANGES_BY_ITSELF or pod is None or pod.container is None:
        return Pause(finding.state, f"{finding.message} {finding.remedy}", limits.settle)
    age = facts.now - (pod.container.started_at or pod.created_at)
    has_started = pod.is_ready or pod.has_lost_readiness
    needs = limits.settle if has_started else max(limits.settle, STARTUP)
    if age < needs:
        who = "The kubelet restarted Chroma" if pod.container.restart_count else "Chroma was started"
        message = f"{who} {format_duration(age)} ago; it gets {format_duration(needs)} to answer."
        return Pause("ContainerStarted", message, needs - age)
    views = view_all(facts)
    if isinstance(views, Views) and not is_asked_since_start(views, finding, limits, facts.now):
        message = f"Chroma was started {format_duration(age)} ago and no canary round has asked it since."
        return Pause("NotAskedSinceStart", message, facts.scrape_interval)
    return Applicable(RestartPod(target=Target(kind="Pod", name=pod.name, uid=pod.uid)))


def verify_restart(facts: Facts, attempt: Attempt, limits: Limits) -> Verdict:
    """A new pod is ready and three samples after the restart say so on every service pod."""
    missing = no_new_pod(facts, attempt) or not_answering(facts, attempt)
    better = f"Pod {attempt.action.target.name} is new and ready, and its canaries succeed."
    return judge(facts, attempt, limits, missing, better)


def _evidence(views: Views, limits: Limits, now: datetime) -> tuple[Evidence, ...]:
    hold = format_duration(limits.hold)
    pods = f"on {len(views.by_pod)} ready service pods, for {format_duration(views.held)}"
    return (
        Evidence(
            signal=BREAKER,
            value=f"at worst {views.worst_breaker:g} {pods}",
            threshold=f"0 (closed); an incident after {hold}",
            at=now,
        ),
        Evidence(
            signal=CANARY,
            value=f"at worst {views.worst_canary:g} {pods}",
            threshold=f"at least {CANARY_MINIMUM}; an incident after {hold}",
            at=now,
        ),
    )


def _pods(count: int) -> str:
    return "the service pod" if count == 1 else f"any of {count} service pods"


RUNBOOK: Final = Runbook(
    name="ChromaUnreachable",
    number=2,
    title="ChromaDB Unreachable",
    severity=Severity.P0,
    limits=Limits(
        max_attempts=3,
        cooldown=timedelta(minutes=5),
        healthy_period=timedelta(minutes=2),
        window=timedelta(minutes=2),
        hold=timedelta(seconds=30),
        settle=timedelta(seconds=15),
        verify_timeout=timedelta(seconds=300),
    ),
    diagnose=diagnose,
    options=(
        Option(code="2A", name="RestartChroma", consider=consider_restart, verify=verify_restart),
        Option(code="2B", name="RepairNetwork", consider=consider_network, verify=verify_network, is_disruptive=False),
        Option(code="2D", name="RebuildCollection", consider=consider_rebuild, verify=verify_rebuild),
        Option(code="2E", name="RaiseMemoryLimit", consider=consider_memory, verify=verify_memory),
    ),
    slis=indicators,
    escalate=escalate,
    signals=(BREAKER, CANARY, CANARY_TIME, DEGRADED, COLLECTIONS, ERRORS, MACHINE_MEMORY, NODE_MEMORY),
    component="chroma",
    explained_by=("DatabaseCorruption",),
    thresholds=THRESHOLDS,
)
