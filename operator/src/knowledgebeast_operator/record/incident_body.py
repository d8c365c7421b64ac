"""An Incident object and the ledger's record of it, in both directions. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final, cast

from pydantic import ValidationError

from knowledgebeast_operator.cluster.client import Json
from knowledgebeast_operator.cluster.objects import Meta
from knowledgebeast_operator.core.database_escalation import last_refusal
from knowledgebeast_operator.core.journal import is_awaiting_approval
from knowledgebeast_operator.core.ledger import IncidentRecord, Outcome, Severity, Trigger
from knowledgebeast_operator.custom_resource import API_VERSION, INCIDENT_KIND, KnowledgeBeast, names

IN_SPEC: Final = frozenset({"name", "runbook", "number", "trigger", "option", "parameters"})
"""Fields of the record that are the object's identity; the rest is its status.

The severity is in both: as it was in the beginning, and as it is.
"""


class UnreadableIncidentError(ValueError):
    """An Incident that this version cannot read; it is left alone and reported."""


def new_body(knowledgebeast: KnowledgeBeast, record: IncidentRecord) -> Json:
    """The Incident to create, without its status: a status cannot be created, only updated.

    It has no owner: the record of what happened outlives the object that it happened to.
    """
    return {
        "apiVersion": API_VERSION,
        "kind": INCIDENT_KIND,
        "metadata": {
            "name": record.name,
            "namespace": knowledgebeast.namespace,
            "labels": names.labels(knowledgebeast.name),
        },
        "spec": {
            "knowledgeBeastRef": {"name": knowledgebeast.name, "uid": knowledgebeast.uid},
            "runbook": record.runbook,
            "severity": str(record.severity),
            "fingerprint": f"{knowledgebeast.uid}/{record.runbook}",
            "number": record.number,
            "trigger": "Detected",
        },
    }


def with_status(body: Json, record: IncidentRecord) -> Json:
    """The live object with the record as its status; its resourceVersion goes along, which makes the write a claim."""
    meta = Meta.model_validate(body["metadata"])
    status = record.model_dump(mode="json", by_alias=True, exclude=set(IN_SPEC), exclude_none=True)
    old = cast("Mapping[str, object]", body.get("status") or {})
    previous = cast("list[Mapping[str, object]]", old.get("conditions") or [])
    for attempt, shown in zip(record.attempts, cast("list[dict[str, object]]", status["attempts"]), strict=True):
        cast("dict[str, object]", shown["action"])["message"] = attempt.action.describe()
    status |= {
        "observedGeneration": meta.generation,
        "attemptCount": len(record.attempts),
        "conditions": _conditions(record, meta.generation, previous),
    }
    return {**body, "status": status}


def record_of(body: Json) -> IncidentRecord:
    """The record of a live Incident. One that was created and got no status any more is open and without evidence.

    Raises:
        UnreadableIncidentError: it is not one of the operator's, or of another version.
    """
    spec = cast("Mapping[str, object]", body.get("spec") or {})
    status = cast("Mapping[str, object]", body.get("status") or {})
    try:
        meta = Meta.model_validate(body["metadata"])
        created = meta.creation_timestamp.isoformat()
        return IncidentRecord.model_validate(
            {
                "openedAt": created,
                "detectedAt": created,
                **status,
                "runbook": spec.get("runbook"),
                # A person need not say these.
                "number": spec.get("number", 0 if is_manual(body) else None),
                "severity": status.get("severity") or spec.get("severity", Severity.P0 if is_manual(body) else None),
                "trigger": spec.get("trigger", Trigger.DETECTED),
                "option": spec.get("option"),
                "parameters": spec.get("parameters") or {},
                "name": meta.name,
            }
        )
    except ValidationError as error:
        raise UnreadableIncidentError(f"{error.error_count()} fields cannot be read: {error.errors()[0]}") from error


def subject_uid(body: Json) -> str | None:
    """The uid of the KnowledgeBeast that an Incident is about; None for one that a person made without it."""
    return _subject(body).get("uid")


def subject_name(body: Json) -> str:
    """The name of the KnowledgeBeast that an Incident is about."""
    return _subject(body).get("name", "")


def is_manual(body: Json) -> bool:
    """Whether a person made it."""
    return cast("Json", body.get("spec") or {}).get("trigger") == Trigger.MANUAL


def _subject(body: Json) -> Mapping[str, str]:
    spec = cast("Mapping[str, Mapping[str, str]]", body.get("spec") or {})
    return spec.get("knowledgeBeastRef", {})


def _conditions(
    record: IncidentRecord, generation: int, previous: list[Mapping[str, object]]
) -> list[Mapping[str, object]]:
    last = record.attempts[-1] if record.attempts else None
    is_remedied = any(attempt.outcome is Outcome.SUCCESSFUL for attempt in record.attempts)
    story = record.timeline[-1] if record.timeline else None
    at = story.at if story else record.opened_at
    message = story.message if story else ""
    call = record.call
    wanted = (
        ("Active", record.is_open, story.reason if story else "IncidentDetected", message),
        (
            "Remediated",
            is_remedied,
            str(last.outcome or "InProgress") if last else "NotTried",
            last.message if last else "",
        ),
        (
            "Escalated",
            call is not None,
            call.reason if call else "NotNeeded",
            f"{call.message} {call.next_step}{_called(record)}" if call else "",
        ),
        ("Resolved", not record.is_open, _end(record), message),
        _approval(record),
        _restore_blocked(record),
    )
    since = {str(item["type"]): item for item in previous}
    return [_condition(*item, generation=generation, at=at, previous=since.get(item[0])) for item in wanted]


def _called(record: IncidentRecord) -> str:
    return f" Called: {', '.join(one.level for one in record.escalations)}." if record.escalations else ""


def _end(record: IncidentRecord) -> str:
    if record.is_open:
        return "Open"
    return "Ended" if record.is_manual else "HealthyAgain"


def _approval(record: IncidentRecord) -> tuple[str, bool, str, str]:
    """Whether it waits for a person's consent; the message has what an IncidentApproval has to name."""
    attempt = record.attempt_in_flight
    if attempt is None or attempt.approval is None or not is_awaiting_approval(attempt):
        return ("AwaitingApproval", False, "NothingAsked", "")
    asked = attempt.approval
    message = (
        f"{asked.reason} To allow it: incident {record.name}, attempt {attempt.id}, evidenceHash {asked.evidence_hash}."
    )
    return ("AwaitingApproval", True, attempt.option, message)


def _restore_blocked(record: IncidentRecord) -> tuple[str, bool, str, str]:
    """Whether the last restore found nothing that it could restore, and so changed nothing."""
    refusal = last_refusal(record)
    if refusal is None or not record.is_open:
        return ("RestoreBlocked", False, "NotBlocked", "")
    return ("RestoreBlocked", True, refusal.reason, refusal.message)


def _condition(
    kind: str,
    is_true: bool,
    reason: str,
    message: str,
    *,
    generation: int,
    at: datetime,
    previous: Mapping[str, object] | None,
) -> Mapping[str, object]:
    status = "True" if is_true else "False"
    is_unchanged = previous is not None and previous.get("status") == status
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": generation,
        "lastTransitionTime": previous["lastTransitionTime"] if previous and is_unchanged else at.isoformat(),
    }
