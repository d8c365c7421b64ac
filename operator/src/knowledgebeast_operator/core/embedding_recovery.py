"""Whether an action of incident 6 has brought the embeddings back, what is measured, and when to call a human."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from knowledgebeast_operator.core.actions import SetFields
from knowledgebeast_operator.core.attempts import deadline
from knowledgebeast_operator.core.embedding_views import (
    MODEL_UP,
    UP,
    backlog,
    error_share,
    is_loaded,
    query_milliseconds,
    running_pods,
    view_all,
)
from knowledgebeast_operator.core.facts import Facts, Known, Pod, Unknown
from knowledgebeast_operator.core.ledger import Attempt, Escalation, IncidentRecord, Outcome, Sli
from knowledgebeast_operator.core.regression import worsened
from knowledgebeast_operator.core.runbook import Effect, Limits, Verdict
from knowledgebeast_operator.core.series import Check, first_missing
from knowledgebeast_operator.custom_resource import format_duration
from knowledgebeast_operator.custom_resource.names import SERVICE

VERIFY_SAMPLES: Final = 3
USE_CPU: Final = "UseCpu"
DID_NOT_HELP: Final = (Outcome.FAILED, Outcome.UNDONE)


def verify_model(facts: Facts, attempt: Attempt, limits: Limits) -> Verdict:
    """Every pod has the model for three samples, its calls succeed, and no other indicator is worse.

    A pod that has loaded a model has compared it with the golden vectors (fp32 within 0.001).
    """
    missing = _not_recovered(facts, attempt, limits)
    is_over = facts.now >= deadline(attempt, limits)
    if isinstance(missing, Unknown):
        # Pods that are being replaced have not been scraped for a moment.
        return Verdict(Effect.UNKNOWN, missing.message)
    worse = worsened(attempt.before, indicators(facts))
    if worse:
        listed = ", ".join(f"{after.name} {before.value:.3g} → {after.value:.3g}" for before, after in worse)
        message = f"Worse than before: {listed}. {missing or 'The model is there.'}"
        return Verdict(Effect.WORSE if is_over else Effect.PENDING, message)
    if missing is not None:
        return Verdict(Effect.NO_CHANGE if is_over else Effect.PENDING, missing)
    return Verdict(Effect.BETTER, "Every service pod has loaded the model, and it makes the golden vectors.")


def verify_cpu(facts: Facts, attempt: Attempt, limits: Limits) -> Verdict:
    """The same, and the CPU is fast enough for the queries that there are."""
    verdict = verify_model(facts, attempt, limits)
    took, most = query_milliseconds(facts, limits), limits.threshold("cpuQueryMilliseconds")
    if verdict.effect is not Effect.BETTER or took is None or took <= most:
        return verdict
    is_over = facts.now >= deadline(attempt, limits)
    message = f"The CPU is too slow for the load: {took:.0f} ms to embed a query, at most {most:.0f} ms is right."
    return Verdict(Effect.NO_CHANGE if is_over else Effect.PENDING, message)


def indicators(facts: Facts) -> tuple[Sli, ...]:
    """The share of pods that have the model, and the share of failed answers."""
    views = view_all(facts)
    known: list[Sli] = []
    if views.by_pod:
        share = 1 - len(views.without) / len(views.by_pod)
        known.append(Sli(name="embedding_available", value=share, unit="ratio"))
    if isinstance(facts.error_ratio, Known):
        known.append(Sli(name="error_ratio", value=facts.error_ratio.value, unit="ratio"))
    return tuple(known)


def escalate(facts: Facts, incident: IncidentRecord, limits: Limits) -> Escalation | None:
    """The runbook's "Escalation Criteria"."""
    slow = next((one for one in incident.attempts if one.option == USE_CPU and one.outcome in DID_NOT_HELP), None)
    if slow is not None:
        return Escalation(
            at=facts.now,
            reason="CpuIsNoWayOut",
            message=f"The CPU does not stand in for the GPU: {slow.message}",
            next_step="Bring the GPU back (kubectl describe node, nvidia-smi), or give the pods more CPU. Keyword "
            "search and the queue go on.",
        )
    waiting, most = backlog(facts), limits.threshold("backlogDocuments")
    if waiting is not None and waiting > most:
        return Escalation(
            at=facts.now,
            reason="BacklogTooLong",
            message=f"{waiting:.0f} documents wait for embeddings, more than {most:.0f}.",
            next_step="They are safe in the queue and found by keyword. Look why the model is away, and expect the "
            "queue to take a while when it is back.",
        )
    lasted = facts.now - incident.detected_at
    longest = timedelta(minutes=limits.threshold("escalateMinutes"))
    if lasted <= longest:
        return None
    return Escalation(
        at=facts.now,
        reason="NotLoaded",
        message=f"The embedding model has been away for {format_duration(lasted)}, more than "
        f"{format_duration(longest)}.",
        next_step="/health of a service pod names the reason under embedding_model; the timeline says what was tried.",
    )


def _not_recovered(facts: Facts, attempt: Attempt, limits: Limits) -> Unknown | str | None:
    """What is still missing after the action; None when nothing is."""
    acted = attempt.acted or attempt.started
    pods = running_pods(facts)
    if isinstance(pods, Unknown):
        return pods.message if isinstance(facts.service_pods, Known) else pods
    if isinstance(attempt.action, SetFields):
        old = [pod.name for pod in pods if pod.created_at < _whole_second(acted)]
        if old and not _is_rolled_out(facts, pods):
            return f"The pods are being replaced one by one; {', '.join(old)} still runs as before."
        if not all(pod.is_ready for pod in pods):
            return "Not every new pod is ready yet."
    checks = (Check(UP, facts.series(MODEL_UP), is_loaded, "a loaded model"),)
    missing = first_missing(checks, [pod.name for pod in pods], facts, samples=VERIFY_SAMPLES, after=acted)
    if isinstance(missing, Unknown):
        return missing.message if missing.reason == "SeriesMissing" else missing
    share = error_share(facts, limits)
    if missing is None and share is not None and share[1] > limits.threshold("errorRatio"):
        return f"{share[1]:.0%} of the embeddings still fail on pod {share[0]}."
    return missing


def _is_rolled_out(facts: Facts, pods: Sequence[Pod]) -> bool:
    """Whether all pods are of the revision asked for. Where fields are put back to what they were, the pods of before
    are of it, and stay.
    """
    is_rolling = any(work.kind == "Rollout" and work.component in ("", SERVICE) for work in facts.own_work)
    revisions = {pod.revision for pod in pods}
    return not is_rolling and len(revisions) == 1 and "" not in revisions


def _whole_second(moment: datetime) -> datetime:
    """Kubernetes writes times without fractions."""
    return moment.replace(microsecond=0)
