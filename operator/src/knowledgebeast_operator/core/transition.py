"""The incident's record after a decision. Pure and idempotent: the same decision applied twice adds nothing."""

from datetime import datetime
from typing import Final

from knowledgebeast_operator.core.attempts import SETTLING, VERIFYING
from knowledgebeast_operator.core.decision import (
    Begin,
    Blocked,
    Conclude,
    Decision,
    Escalate,
    Healthy,
    Open,
    Perform,
    Resolve,
    Revert,
    Uncertain,
    Undo,
    Wait,
    Worsen,
)
from knowledgebeast_operator.core.escalation_path import STILL_OPEN
from knowledgebeast_operator.core.ledger import Attempt, DataLoss, Escalation, IncidentRecord, Outcome, TimelineEntry
from knowledgebeast_operator.core.objectives import judged
from knowledgebeast_operator.core.runbook import Runbook
from knowledgebeast_operator.core.severity import worse

MAX_TIMELINE: Final = 50
KEPT_FROM_THE_START: Final = 10
"""How it began is kept when a flickering signal fills the timeline."""

MAX_ATTEMPTS: Final = 20
MAX_EVIDENCE: Final = 20
MAX_MESSAGE: Final = 1024
"""The bounds of the Incident's schema (crds/incidents.yaml)."""

OUTCOME_REASONS: Final = {
    Outcome.SUCCESSFUL: "RemediationSucceeded",
    Outcome.DIAGNOSED: "Diagnosed",
    Outcome.FAILED: "RemediationFailed",
    Outcome.UNDONE: "RemediationUndone",
    Outcome.INCONCLUSIVE: "RemediationInconclusive",
    Outcome.DRY_RUN: "RemediationDryRun",
    Outcome.BLOCKED: "RemediationWithdrawn",
}

_NOT_TOLD: Final = frozenset({SETTLING, VERIFYING, "Holding"})
"""Waits that are said elsewhere: by the attempt that they belong to, or before there is an incident."""


def opened(runbook: Runbook, decision: Open, *, name: str, number: int, now: datetime) -> IncidentRecord:
    """The record with which an incident begins; its name is `names.incident_name(object, runbook.name, number)`."""
    return IncidentRecord(
        name=name,
        runbook=runbook.name,
        number=number,
        severity=decision.severity,
        opened_at=now,
        detected_at=decision.detected_at,
        evidence=decision.evidence[:MAX_EVIDENCE],
        caused_by=decision.caused_by,
        timeline=(_entry(now, "IncidentDetected", f"{decision.reason}: {decision.message}"),),
    )


def transition(record: IncidentRecord, decision: Decision, now: datetime) -> IncidentRecord:
    """The record after `decision`, which was made at `now`. `Perform` means that the action has been confirmed."""
    match decision:
        case Begin(attempt=attempt, passed_over=passed_over):
            return _begin(_pass_over(record, passed_over, now), attempt, now)
        case Perform(attempt=attempt, loss=loss):
            acted = _acted(record, attempt, now)
            return acted if loss is None else _update(acted, data_loss=_measured(record, attempt, loss, now))
        case Revert(attempt=attempt):
            return _revert(record, attempt, now)
        case Conclude(attempt=attempt):
            return _conclude(record, attempt, now)
        case Undo(attempt=attempt):
            return _undone(record, attempt, now)
        case Escalate(escalation=escalation):
            return _call(record, escalation, now)
        case Worsen(severity=severity, message=message):
            if worse(record.severity, severity) is record.severity:
                return record
            told = _tell(record, now, "IncidentWorsened", f"{record.severity} becomes {severity}. {message}")
            return _update(told, severity=severity, healthy_since=None)
        case Resolve(message=message):
            if record.resolved_at is not None:
                return record
            return _update(_tell(record, now, "IncidentResolved", message), resolved_at=now)
        case Wait(reason=reason, message=message, healthy_since=since):
            told = record if reason in _NOT_TOLD else _tell_once(record, now, reason, message)
            return _update(told, healthy_since=since)
        case Blocked(reason=reason, message=message):
            return _update(_tell_once(record, now, reason, message), healthy_since=None)
        case Uncertain(message=message):
            return _update(_tell_once(record, now, "SignalsUnknown", message), healthy_since=None)
        case Healthy() | Open():
            return record


def _begin(record: IncidentRecord, attempt: Attempt, now: datetime) -> IncidentRecord:
    if any(known.id == attempt.id for known in record.attempts):
        return record
    message = f"{attempt.option} ({attempt.id}): {attempt.action.describe()}."
    return _tell(_put(record, attempt), now, "RemediationBegun", message)


def _pass_over(record: IncidentRecord, passed_over: tuple[tuple[str, str], ...], now: datetime) -> IncidentRecord:
    """Why the options before the chosen one did not fit, each reason once."""
    for option, why in passed_over:
        message = f"{option}: {why}"[:MAX_MESSAGE]
        if all(entry.message != message for entry in record.timeline):
            record = _tell(record, now, "OptionPassedOver", message)
    return record


def _revert(record: IncidentRecord, attempt: Attempt, now: datetime) -> IncidentRecord:
    known = next((known for known in record.attempts if known.id == attempt.id), None)
    if known is None or known.undoing is not None or known.finished is not None or attempt.inverse is None:
        return record
    cut = attempt.model_copy(update={"undoing": now, "message": attempt.message[:MAX_MESSAGE]})
    message = f"{attempt.option} ({attempt.id}): {attempt.message} It is undone: {attempt.inverse.describe()}."
    return _tell(_put(record, cut), now, "RemediationUndoing", message)


def _undone(record: IncidentRecord, attempt: Attempt, now: datetime) -> IncidentRecord:
    known = next((known for known in record.attempts if known.id == attempt.id), None)
    if known is None or known.undoing is None or known.finished is not None:
        return record
    update = {"finished": now, "outcome": Outcome.UNDONE}
    message = f"{known.option} ({known.id}) was undone. {known.message}"
    return _tell(_put(record, known.model_copy(update=update)), now, OUTCOME_REASONS[Outcome.UNDONE], message)


def progressed(record: IncidentRecord, attempt: Attempt, stage: str, message: str, now: datetime) -> IncidentRecord:
    """The record when a task has come to another of its steps. The first step is where it begins."""
    known = next((known for known in record.attempts if known.id == attempt.id), None)
    if known is None or known.acted is not None or known.finished is not None or known.stage == stage:
        return record
    update = {"begun": known.begun or now, "stage": stage, "approval": attempt.approval}
    return _tell(
        _put(record, known.model_copy(update=update)), now, stage, f"{attempt.option} ({attempt.id}): {message}"
    )


def _measured(record: IncidentRecord, attempt: Attempt, loss: DataLoss, now: datetime) -> DataLoss:
    """With the time that users know: from the first sign of damage to the restored database, if it was restored."""
    is_restored = attempt.report is not None and attempt.report.ok
    lasted = max(0.0, (now - record.detected_at).total_seconds())
    return judged(loss.model_copy(update={"rto_seconds": lasted if is_restored else None}))


def _acted(record: IncidentRecord, attempt: Attempt, now: datetime) -> IncidentRecord:
    known = next((known for known in record.attempts if known.id == attempt.id), None)
    if known is None or known.acted is not None or known.finished is not None:
        return record
    update = {"acted": now, "report": attempt.report, "approval": attempt.approval}
    told = _put(record, known.model_copy(update=update))
    if attempt.report is not None:
        return _tell(told, now, "TaskEnded", f"{attempt.option} ({attempt.id}): {attempt.report.message}")
    message = f"{attempt.option} ({attempt.id}) was carried out on {attempt.action.target.name}."
    return _tell(told, now, "RemediationCarriedOut", message)


def _conclude(record: IncidentRecord, attempt: Attempt, now: datetime) -> IncidentRecord:
    known = next((known for known in record.attempts if known.id == attempt.id), None)
    if attempt.outcome is None or (known is not None and known.finished is not None):
        return record
    cut = attempt.model_copy(update={"message": attempt.message[:MAX_MESSAGE]})
    message = f"{attempt.option} ({attempt.id}): {attempt.message}"
    return _tell(_put(record, cut), now, OUTCOME_REASONS[attempt.outcome], message)


def _call(record: IncidentRecord, escalation: Escalation, now: datetime) -> IncidentRecord:
    """The first reason is kept, and the first call of each level. Whoever is called late, is told with the next one."""
    is_reason = record.escalation is None and escalation.reason != STILL_OPEN
    levels = [level for level in escalation.level.path if level not in record.called]
    if not is_reason and not levels:
        return record
    cut = escalation.model_copy(
        update={"message": escalation.message[:MAX_MESSAGE], "next_step": escalation.next_step[:MAX_MESSAGE]}
    )
    called = f" Called: {', '.join(levels)}." if levels else ""
    told = _tell(record, now, "IncidentEscalated", f"{escalation.reason}: {escalation.message}{called}")
    return _update(
        told,
        escalation=cut if is_reason else record.escalation,
        escalations=(*record.escalations, *(cut.model_copy(update={"level": level}) for level in levels)),
        healthy_since=None,
    )


def _put(record: IncidentRecord, attempt: Attempt) -> IncidentRecord:
    others = tuple(known for known in record.attempts if known.id != attempt.id)
    return _update(record, attempts=(*others, attempt)[-MAX_ATTEMPTS:], healthy_since=None)


def _tell(record: IncidentRecord, now: datetime, reason: str, message: str) -> IncidentRecord:
    timeline = (*record.timeline, _entry(now, reason, message))
    if len(timeline) > MAX_TIMELINE:
        timeline = timeline[:KEPT_FROM_THE_START] + timeline[KEPT_FROM_THE_START - MAX_TIMELINE :]
    return _update(record, timeline=timeline)


def _tell_once(record: IncidentRecord, now: datetime, reason: str, message: str) -> IncidentRecord:
    """Only when the last line is not about the same: its message holds numbers that change every tick."""
    is_told = bool(record.timeline) and record.timeline[-1].reason == reason
    return record if is_told else _tell(record, now, reason, message)


def _entry(now: datetime, reason: str, message: str) -> TimelineEntry:
    return TimelineEntry(at=now, reason=reason, message=message[:MAX_MESSAGE])


def _update(record: IncidentRecord, **fields: object) -> IncidentRecord:
    return record.model_copy(update=fields)
