"""When a person is called about Chroma: the runbook's "Escalation Criteria" of incident 2."""

from datetime import timedelta
from typing import Final

from knowledgebeast_operator.core.chroma_cause import answers_heartbeat, find_cause
from knowledgebeast_operator.core.chroma_network import policies_of_others
from knowledgebeast_operator.core.chroma_rebuild import damaged_projects, project_of
from knowledgebeast_operator.core.chroma_views import Unknowns, canaries_fail, view_all
from knowledgebeast_operator.core.facts import Facts, Known, Unknown
from knowledgebeast_operator.core.ledger import Escalation, IncidentRecord, Outcome
from knowledgebeast_operator.core.runbook import Limits, Threshold
from knowledgebeast_operator.custom_resource import format_duration

THRESHOLDS: Final = {
    "escalateMinutes": Threshold(15, 1, 1440, "min", "Time that Chroma may be away before a human is called."),
    "fallbackErrorPercent": Threshold(
        5,
        0.1,
        100,
        "%",
        "More failed answers while Chroma is away call a human: keyword search fails too.",
    ),
}


def escalate(facts: Facts, incident: IncidentRecord, limits: Limits) -> Escalation | None:
    """Keyword search failing too, integrity in doubt, or down for too long."""
    lasted = facts.now - incident.detected_at
    most, longest = limits.threshold("fallbackErrorPercent"), timedelta(minutes=limits.threshold("escalateMinutes"))
    if isinstance(facts.error_ratio, Known) and facts.error_ratio.value * 100 > most:
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
            message="A restarted Chroma answers its heartbeat, but the canaries still fail: its index may be damaged, "
            f"or the way to it blocked for all but the kubelet. {_what_was_rebuilt(incident)}",
            next_step=f"{policies_of_others(facts)}Look for errors in Chroma's log and check that its volume is not "
            "full; then rebuild the collections that /health names (`knowledgebeast maintain rebuild-collection`). "
            "Keyword search goes on.",
        )
    if lasted > longest:
        return Escalation(
            at=facts.now,
            reason="DownTooLong",
            message=f"The incident has lasted {format_duration(lasted)}, more than {format_duration(longest)}.",
            next_step="Look at Chroma's pod (kubectl describe, kubectl logs --previous) and at the timeline; "
            "the operator goes on with the attempts that are left.",
        )
    return None


def _is_integrity_in_doubt(facts: Facts, incident: IncidentRecord) -> bool:
    """A restart did not help, the heartbeat answers (the pod is ready), and the canaries still fail.

    Not before the rebuild that comes next has been tried.
    """
    was_restarted = any(attempt.outcome is Outcome.FAILED and attempt.acted for attempt in incident.attempts)
    views, finding = view_all(facts), find_cause(facts)
    if not was_restarted or isinstance(views, Unknowns) or isinstance(finding, Unknown):
        return False
    damaged = damaged_projects(facts)
    if not isinstance(damaged, Unknown) and damaged and not _rebuilt(incident):
        return False
    is_failing = all(view.is_bad and canaries_fail(view.canary) for view in views.by_pod)
    return is_failing and answers_heartbeat(finding, views)


def _rebuilt(incident: IncidentRecord) -> tuple[str, ...]:
    """The projects whose collection was rebuilt, or was to be; in the order of the attempts."""
    ended = (attempt for attempt in incident.attempts if attempt.finished is not None)
    return tuple(project for attempt in ended if (project := project_of(attempt)))


def _what_was_rebuilt(incident: IncidentRecord) -> str:
    rebuilt = _rebuilt(incident)
    return f"A rebuild was tried for {', '.join(rebuilt)}." if rebuilt else "No single collection is accused."
