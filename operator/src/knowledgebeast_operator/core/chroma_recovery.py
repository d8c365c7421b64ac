"""Whether Chroma answers again after an attempt, whichever option it was."""

from datetime import datetime
from typing import Final

from knowledgebeast_operator.core.attempts import deadline
from knowledgebeast_operator.core.chroma_cause import find_cause
from knowledgebeast_operator.core.chroma_views import (
    BREAKER,
    CANARY,
    CANARY_TIME,
    DEGRADED,
    Unknowns,
    Views,
    canaries_succeed,
    is_closed,
    view_all,
)
from knowledgebeast_operator.core.facts import Facts, Known, Unknown
from knowledgebeast_operator.core.ledger import Attempt, Sli
from knowledgebeast_operator.core.regression import worsened
from knowledgebeast_operator.core.runbook import Effect, Limits, Verdict
from knowledgebeast_operator.core.series import Check, first_missing
from knowledgebeast_operator.core.workload import PodState

VERIFY_SAMPLES: Final = 3


def judge(facts: Facts, attempt: Attempt, limits: Limits, missing: Unknown | str | None, better: str) -> Verdict:
    """Better only when nothing is missing any more and nothing has become worse.

    Args:
        facts: what is known now.
        attempt: what was done, and what was measured before it.
        limits: for the deadline.
        missing: the first sign of recovery that is not there, None when all are.
        better: the sentence for success.
    """
    is_over = facts.now >= deadline(attempt, limits)
    if isinstance(missing, Unknown):
        return Verdict(Effect.UNKNOWN, missing.message)
    worse = worsened(attempt.before, indicators(facts))
    if worse:
        listed = ", ".join(f"{after.name} {before.value:.3g} → {after.value:.3g}" for before, after in worse)
        message = f"Worse than before: {listed}. {missing or 'Chroma answers.'}"
        # The error ratio looks back over the action itself, so it has the whole time to come down.
        return Verdict(Effect.WORSE if is_over else Effect.PENDING, message)
    if missing is not None:
        return Verdict(Effect.NO_CHANGE if is_over else Effect.PENDING, missing)
    if isinstance(facts.error_ratio, Unknown) and facts.error_ratio.reason != "Idle":
        return Verdict(Effect.UNKNOWN, f"Chroma answers, but: {facts.error_ratio.message}")
    return Verdict(Effect.BETTER, better)


def no_new_pod(facts: Facts, attempt: Attempt) -> Unknown | str | None:
    """After a restart: what is known of the pod's successor, None when it is ready."""
    finding = find_cause(facts)
    if isinstance(finding, Unknown):
        return finding
    if finding.pod is None or finding.pod.uid == attempt.action.target.uid or finding.state is not PodState.READY:
        return f"No new pod is ready yet. {finding.message}"
    return None


def not_answering(facts: Facts, attempt: Attempt) -> Unknown | str | None:
    """What is still missing on a service pod; None when all of them have been answered since the attempt."""
    acted = attempt.acted or attempt.started
    views = view_all(facts)
    if isinstance(views, Unknowns):
        return views.reasons[0]
    checks = (
        Check(BREAKER, facts.breaker_state, is_closed, "a closed breaker"),
        Check(CANARY, facts.canary_success_ratio, canaries_succeed, "canaries that succeed"),
        _asked_after(facts, acted),
        Check(DEGRADED, facts.degraded_mode, lambda mode: mode < 1, "degraded_mode 0"),
    )
    pods = tuple(view.pod for view in views.by_pod)
    return first_missing(checks, pods, facts, samples=VERIFY_SAMPLES, after=acted)


def not_asked(facts: Facts, attempt: Attempt) -> Unknown | str | None:
    """The service pod that has not finished a canary round since the attempt, for three samples."""
    acted = attempt.acted or attempt.started
    views = view_all(facts)
    if isinstance(views, Unknowns):
        return views.reasons[0]
    pods = tuple(view.pod for view in views.by_pod)
    return first_missing((_asked_after(facts, acted),), pods, facts, samples=VERIFY_SAMPLES, after=acted)


def _asked_after(facts: Facts, acted: datetime) -> Check:
    return Check(CANARY_TIME, facts.canary_timestamp, lambda at: at > acted.timestamp(), "a canary round since then")


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
