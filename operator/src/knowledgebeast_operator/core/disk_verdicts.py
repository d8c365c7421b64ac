"""How a cleaning or an enlargement of a volume is judged (incident 5). Pure."""

from datetime import timedelta

from knowledgebeast_operator.core.actions import SetFields
from knowledgebeast_operator.core.attempts import deadline
from knowledgebeast_operator.core.disk_expansion import size_path
from knowledgebeast_operator.core.disk_views import VolumeView, capacity_at, size, view_volume
from knowledgebeast_operator.core.facts import Facts, Unknown
from knowledgebeast_operator.core.ledger import Attempt
from knowledgebeast_operator.core.runbook import Effect, Limits, Verdict
from knowledgebeast_operator.custom_resource.names import BACKUPS


def verify_clean(facts: Facts, attempt: Attempt, limits: Limits) -> Verdict:
    """The kubelet's account after the task. That it was too little is known at once from what the task measured."""
    view = view_volume(facts, attempt.action.target.name, limits)
    verdict = _verdict(view, facts, attempt, limits, _told(attempt))
    if verdict.effect is Effect.PENDING and isinstance(view, VolumeView) and _left_too_little(view, attempt):
        return Verdict(Effect.NO_CHANGE, verdict.message)
    return verdict


def verify_expand(facts: Facts, attempt: Attempt, limits: Limits) -> Verdict:
    """More capacity than when the attempt began, and enough of it free."""
    path = next(iter(attempt.action.fields)) if isinstance(attempt.action, SetFields) else ""
    claim = _claim_of(path, facts)
    view = view_volume(facts, claim, limits)
    before = capacity_at(facts, claim, attempt.started)
    if isinstance(view, Unknown) or before is None or view.capacity > before:
        return _verdict(view, facts, attempt, limits, "The volume was enlarged.")
    is_over = facts.now >= deadline(attempt, limits)
    message = f"The kubelet still reports {size(view.capacity)} for claim {claim}."
    return Verdict(Effect.NO_CHANGE if is_over else Effect.PENDING, message)


def _left_too_little(view: VolumeView, attempt: Attempt) -> bool:
    """By what the task measured at its end; the kubelet looks once a minute."""
    if attempt.report is None:
        return False
    left = attempt.report.figures.get(f"{'backups' if view.name == BACKUPS else 'data'}_available_after")
    return left is not None and left < view.need


def _claim_of(path: str, facts: Facts) -> str:
    if isinstance(facts.volumes, Unknown):
        return ""
    return next((volume.claim for name, volume in facts.volumes.value.items() if size_path(name) == path), "")


def _told(attempt: Attempt) -> str:
    freed = attempt.report.figures.get("freed_bytes") if attempt.report is not None else None
    return "" if freed is None else f"The task freed {size(max(freed, 0))}."


def _verdict(view: VolumeView | Unknown, facts: Facts, attempt: Attempt, limits: Limits, told: str) -> Verdict:
    is_over = facts.now >= deadline(attempt, limits)
    if isinstance(view, Unknown):
        return Verdict(Effect.UNKNOWN, view.message)
    if view.at <= (attempt.acted or attempt.started):
        return Verdict(Effect.PENDING, "The kubelet has not measured it since.")
    horizon = facts.now + timedelta(hours=limits.threshold("forecastHours"))
    if not view.is_low and (view.full_at is None or view.full_at >= horizon or _has_gained(attempt)):
        return Verdict(Effect.BETTER, f"{told} Enough is free now: {view.describe()}.".strip())
    message = f"{told} Not enough yet: {view.describe()}.".strip()
    return Verdict(Effect.NO_CHANGE if is_over else Effect.PENDING, message)


def _has_gained(attempt: Attempt) -> bool:
    """The trend of the last hour still falls when something was freed a minute ago."""
    freed = attempt.report.figures.get("freed_bytes", 0.0) if attempt.report is not None else 0.0
    return freed > 0 or isinstance(attempt.action, SetFields)
