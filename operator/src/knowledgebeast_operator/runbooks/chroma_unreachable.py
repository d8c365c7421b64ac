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
    2A RestartChroma: delete the pod by uid. Not while the kubelet or the StatefulSet is already replacing it.

Verify
    A new pod is ready, and on every ready service pod for three samples: canaries of a round after the restart
    succeed, the breaker is closed, `degraded_mode` is 0. The error ratio is not worse than before.

Escalate
    Down for more than 15 minutes, keyword search failing too, or canaries failing although a restarted Chroma's
    heartbeat answers (its index may be damaged).
"""

from datetime import datetime, timedelta
from typing import Final

from knowledgebeast_operator.core.actions import RestartPod, Target
from knowledgebeast_operator.core.attempts import deadline
from knowledgebeast_operator.core.chroma_views import (
    BREAKER,
    CANARY,
    CANARY_MINIMUM,
    CANARY_TIME,
    DEGRADED,
    Unknowns,
    Views,
    canaries_fail,
    canaries_succeed,
    is_closed,
    view_all,
)
from knowledgebeast_operator.core.facts import Facts, Known, Unknown
from knowledgebeast_operator.core.ledger import (
    Attempt,
    Escalation,
    Evidence,
    IncidentRecord,
    Journal,
    Outcome,
    Severity,
    Sli,
)
from knowledgebeast_operator.core.regression import worsened
from knowledgebeast_operator.core.runbook import (
    Applicable,
    Detected,
    Diagnosis,
    Effect,
    Limits,
    NotApplicable,
    NotDetected,
    Option,
    Pause,
    Runbook,
    Undetermined,
    Verdict,
)
from knowledgebeast_operator.core.series import Check, first_missing
from knowledgebeast_operator.core.workload import (
    CHANGES_BY_ITSELF,
    NEEDS_A_HUMAN,
    STARTUP,
    Finding,
    PodState,
    examine,
)
from knowledgebeast_operator.custom_resource import format_duration

ERRORS: Final = "http_requests_total"

VERIFY_SAMPLES: Final = 3
READINESS_TAKES: Final = timedelta(seconds=25)
"""The readiness probe (every 5 s, 3 s, 3 failures) has noticed a Chroma whose heartbeat does not answer."""

ASKED_WITHIN: Final = timedelta(minutes=2)
"""An open breaker asks again within its longest wait (30 s by default); after this its silence counts, too."""

DOWN_TOO_LONG: Final = timedelta(minutes=15)
FALLBACK_ERROR_RATIO: Final = 0.05
"""More failed answers than this while Chroma is away: keyword search does not carry the load."""

MEMORY_FIELD: Final = "spec.chroma.resources.limits.memory"


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
    if not _is_asked_since_start(views, finding, limits, facts.now):
        held = timedelta(0)
    return Detected(
        _reason(finding, views, facts.now),
        f"Chroma does not answer {_pods(asked)}, for {format_duration(held)} at least. {finding.message}",
        held,
        _evidence(views, limits, facts.now),
        outlasts_own_work=finding.state in NEEDS_A_HUMAN,
    )


def find_cause(facts: Facts) -> Finding | Unknown:
    """What the cluster says about Chroma's pod."""
    if isinstance(facts.chroma_pods, Unknown):
        return facts.chroma_pods
    if isinstance(facts.nodes, Unknown):
        return facts.nodes
    return examine(facts.chroma_pods.value, facts.nodes.value, now=facts.now, memory_field=MEMORY_FIELD)


def consider_restart(
    facts: Facts, detected: Detected, journal: Journal, limits: Limits
) -> Applicable | NotApplicable | Pause:
    """2A: for a Chroma that runs and does not answer. Says what helps where a restart does not."""
    finding = find_cause(facts)
    if isinstance(finding, Unknown):
        return Pause(finding.reason, finding.message, limits.settle)
    pod = finding.pod
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
    if isinstance(views, Views) and not _is_asked_since_start(views, finding, limits, facts.now):
        message = f"Chroma was started {format_duration(age)} ago and no canary round has asked it since."
        return Pause("NotAskedSinceStart", message, facts.scrape_interval)
    return Applicable(RestartPod(target=Target(kind="Pod", name=pod.name, uid=pod.uid)))


def verify_restart(facts: Facts, attempt: Attempt, limits: Limits) -> Verdict:
    """Better only when a new pod is ready and three samples after the restart say so on every service pod."""
    missing = _not_recovered(facts, attempt)
    is_over = facts.now >= deadline(attempt, limits)
    if isinstance(missing, Unknown):
        return Verdict(Effect.UNKNOWN, missing.message)
    worse = worsened(attempt.before, indicators(facts))
    if worse:
        listed = ", ".join(f"{after.name} {before.value:.3g} → {after.value:.3g}" for before, after in worse)
        message = f"Worse than before the restart: {listed}. {missing or 'Chroma answers.'}"
        # The error ratio looks back over the restart itself, so it has the whole time to come down.
        return Verdict(Effect.WORSE if is_over else Effect.PENDING, message)
    if missing is not None:
        return Verdict(Effect.NO_CHANGE if is_over else Effect.PENDING, missing)
    if isinstance(facts.error_ratio, Unknown) and facts.error_ratio.reason != "Idle":
        return Verdict(Effect.UNKNOWN, f"Chroma answers, but: {facts.error_ratio.message}")
    return Verdict(Effect.BETTER, f"Pod {attempt.action.target.name} is new and ready, and its canaries succeed.")


def indicators(facts: Facts) -> tuple[Sli, ...]:
    """What is measured now: the worst service pod's canaries and breaker, and the share of failed answers."""
    views = view_all(facts)
    known: list[Sli] = []
    if isinstance(views, Views):
        known.append(Sli(name="chroma_available", value=views.worst_canary, unit="ratio"))
        known.append(Sli(name="breaker_state", value=views.worst_breaker, unit="state"))
    if isinstance(facts.error_ratio, Known):
        known.append(Sli(name="error_ratio", value=facts.error_ratio.value, unit="ratio"))
    return tuple(known)


def escalate(facts: Facts, incident: IncidentRecord, limits: Limits) -> Escalation | None:
    """The runbook's "Escalation Criteria"."""
    lasted = facts.now - incident.detected_at
    if isinstance(facts.error_ratio, Known) and facts.error_ratio.value > FALLBACK_ERROR_RATIO:
        return Escalation(
            at=facts.now,
            reason="KeywordSearchFailing",
            message=f"Chroma is away and {facts.error_ratio.value:.1%} of the answers fail: keyword search fails too.",
            next_step="Look at the service pods' logs and at /health, first at database and keyword_index.",
        )
    if _is_integrity_in_doubt(facts, incident):
        return Escalation(
            at=facts.now,
            reason="IntegrityInDoubt",
            message="A restarted Chroma answers its heartbeat, but the canaries still fail: its index may be damaged.",
            next_step="Look for errors in Chroma's log and check that its volume is not full; then rebuild the "
            "collections from the database. Keyword search goes on meanwhile.",
        )
    if lasted > DOWN_TOO_LONG:
        return Escalation(
            at=facts.now,
            reason="DownTooLong",
            message=f"The incident has lasted {format_duration(lasted)}, more than {format_duration(DOWN_TOO_LONG)}.",
            next_step="Look at Chroma's pod (kubectl describe, kubectl logs --previous) and at the timeline; "
            "the operator goes on with the attempts that are left.",
        )
    return None


def _reason(finding: Finding, views: Views, now: datetime) -> str:
    """A running Chroma: the breaker tells errors from silence, and in time the readiness probe does."""
    if finding.pod is None or finding.state not in (PodState.READY, PodState.NOT_READY):
        return finding.state
    if finding.state is PodState.NOT_READY:
        container = finding.pod.container
        started = (container.started_at if container else None) or finding.pod.created_at
        has_started = finding.pod.has_lost_readiness or now - started >= STARTUP
        return "ChromaHung" if has_started else "ChromaNotReady"
    is_reachable = is_closed(views.worst_breaker)
    return "ChromaAnswersErrors" if is_reachable or views.held > READINESS_TAKES else "ChromaHung"


def _is_asked_since_start(views: Views, finding: Finding, limits: Limits, now: datetime) -> bool:
    """Whether the verdict is about the Chroma that runs now: an open breaker asks again after up to half a minute.

    Without this a Chroma that has just become well would be restarted for the silence of its predecessor.
    """
    container = finding.pod.container if finding.pod is not None else None
    if container is None or container.started_at is None:
        return True
    had_time = container.started_at + limits.settle
    return views.first_round > had_time.timestamp() or now > had_time + ASKED_WITHIN


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


def _not_recovered(facts: Facts, attempt: Attempt) -> Unknown | str | None:
    """What is still missing after the restart; None when nothing is."""
    acted = attempt.acted or attempt.started
    finding = find_cause(facts)
    if isinstance(finding, Unknown):
        return finding
    if finding.pod is None or finding.pod.uid == attempt.action.target.uid or finding.state is not PodState.READY:
        return f"No new pod is ready yet. {finding.message}"
    views = view_all(facts)
    if isinstance(views, Unknowns):
        return views.reasons[0]
    checks = (
        Check(BREAKER, facts.breaker_state, is_closed, "a closed breaker"),
        Check(CANARY, facts.canary_success_ratio, canaries_succeed, "canaries that succeed"),
        Check(CANARY_TIME, facts.canary_timestamp, lambda at: at > acted.timestamp(), "a canary round since then"),
        Check(DEGRADED, facts.degraded_mode, lambda mode: mode < 1, "degraded_mode 0"),
    )
    pods = tuple(view.pod for view in views.by_pod)
    return first_missing(checks, pods, facts, samples=VERIFY_SAMPLES, after=acted)


def _is_integrity_in_doubt(facts: Facts, incident: IncidentRecord) -> bool:
    """A restart did not help, the heartbeat answers (the pod is ready), and the canaries still fail."""
    was_restarted = any(attempt.outcome is Outcome.FAILED and attempt.acted for attempt in incident.attempts)
    views, finding = view_all(facts), find_cause(facts)
    if not was_restarted or isinstance(views, Unknowns) or isinstance(finding, Unknown):
        return False
    answers_heartbeat = finding.state is PodState.READY and views.held > READINESS_TAKES
    return answers_heartbeat and all(view.is_bad and canaries_fail(view.canary) for view in views.by_pod)


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
    options=(Option(code="2A", name="RestartChroma", consider=consider_restart, verify=verify_restart),),
    slis=indicators,
    escalate=escalate,
    signals=(BREAKER, CANARY, CANARY_TIME, DEGRADED, ERRORS),
    component="chroma",
)
