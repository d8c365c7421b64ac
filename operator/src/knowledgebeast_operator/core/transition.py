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
    Uncertain,
    Wait,
)
from knowledgebeast_operator.core.ledger import Attempt, IncidentRecord, Outcome, TimelineEntry
from knowledgebeast_operator.core.runbook import Runbook

MAX_TIMELINE: Final = 50
KEPT_FROM_THE_START: Final = 10
"""How it began is kept when a flickering signal fills the timeline."""

MAX_ATTEMPTS: Final = 20
MAX_EVIDENCE: Final = 20
MAX_MESSAGE: Final = 1024
"""The bounds of the Incident's schema (crds/incidents.yaml)."""

OUTCOME_REASONS: Final = {
    Outcome.SUCCESSFUL: "RemediationSucceeded",
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
        severity=runbook.severity,
        opened_at=now,
        detected_at=decision.detected_at,
        evidence=decision.evidence[:MAX_EVIDENCE],
        timeline=(_entry(now, "IncidentDetected", f"{decision.reason}: {decision.message}"),),
    )


def transition(record: IncidentRecord, decision: Decision, now: datetime) -> IncidentRecord:
    """The record after `decision`, which was made at `now`. `Perform` means that the action has been confirmed."""
    match decision:
        case Begin(attempt=attempt):
            return _begin(record, attempt, now)
        case Perform(attempt=attempt):
            return _acted(record, attempt, now)
        case Conclude(attempt=attempt):
            return _conclude(record, attempt, now)
        case Escalate(escalation=escalation):
            if record.escalation is not None:
                return record
            cut = {"message": escalation.message[:MAX_MESSAGE], "next_step": escalation.next_step[:MAX_MESSAGE]}
            told = _tell(record, now, "IncidentEscalated", f"{escalation.reason}: {escalation.message}")
            return _update(told, escalation=escalation.model_copy(update=cut), healthy_since=None)
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


def _acted(record: IncidentRecord, attempt: Attempt, now: datetime) -> IncidentRecord:
    known = next((known for known in record.attempts if known.id == attempt.id), None)
    if known is None or known.acted is not None or known.finished is not None:
        return record
    message = f"{attempt.option} ({attempt.id}) was carried out on {attempt.action.target.name}."
    return _tell(_put(record, known.model_copy(update={"acted": now})), now, "RemediationCarriedOut", message)


def _conclude(record: IncidentRecord, attempt: Attempt, now: datetime) -> IncidentRecord:
    known = next((known for known in record.attempts if known.id == attempt.id), None)
    if attempt.outcome is None or (known is not None and known.finished is not None):
        return record
    cut = attempt.model_copy(update={"message": attempt.message[:MAX_MESSAGE]})
    message = f"{attempt.option} ({attempt.id}): {attempt.message}"
    return _tell(_put(record, cut), now, OUTCOME_REASONS[attempt.outcome], message)


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
