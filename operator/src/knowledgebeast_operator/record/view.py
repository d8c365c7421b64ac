"""The status of a KnowledgeBeast as a view of one tick. Pure; the same tick twice gives the same view."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final, cast

from pydantic import TypeAdapter, ValidationError

from knowledgebeast_operator.actions.apply import Report
from knowledgebeast_operator.cluster.client import Json
from knowledgebeast_operator.cluster.objects import LiveOperand
from knowledgebeast_operator.core.conditions import Condition, Observed, Status, object_conditions, set_condition
from knowledgebeast_operator.core.decision import Wait
from knowledgebeast_operator.core.facts import Facts, Known, Pod
from knowledgebeast_operator.core.healthy_revision import LAST_HEALTHY, HealthyRevision
from knowledgebeast_operator.core.journal import merge
from knowledgebeast_operator.core.ledger import Attempt, IncidentRecord, Journal, Outcome
from knowledgebeast_operator.core.overview import Overview, Turn
from knowledgebeast_operator.core.protection_conditions import protection_conditions
from knowledgebeast_operator.core.revisions import remembered
from knowledgebeast_operator.core.summary import summarize
from knowledgebeast_operator.custom_resource.names import BACKUPS, CHROMA, DATABASE, claim_name
from knowledgebeast_operator.record.protection_view import protection_view
from knowledgebeast_operator.runbooks.api_error_rate_spike import RUNBOOK

MAX_LISTED: Final = 20
MAX_MESSAGE: Final = 1024

_CONDITIONS = TypeAdapter(tuple[Condition, ...])
_ATTEMPTS = TypeAdapter(tuple[Attempt, ...])


def conditions_of(status: Json) -> tuple[Condition, ...]:
    """The conditions that are there; none when they cannot be read, since all are observed anew."""
    try:
        return _CONDITIONS.validate_python(status.get("conditions") or ())
    except ValidationError:
        return ()


def journal_of(status: Json, incidents: Iterable[IncidentRecord], facts: Facts) -> Journal:
    """What was tried lately: as the status recalls it, and as the Incidents that still exist say."""
    recalled: tuple[Attempt, ...] = ()
    for item in cast("Iterable[object]", status.get("recentAttempts") or ()):
        try:
            recalled += _ATTEMPTS.validate_python([item])
        except ValidationError:
            continue  # of a version with other actions; the Incident has it all the same
    told = [attempt for record in incidents for attempt in record.attempts]
    return merge(Journal(attempts=tuple(_abandoned(recalled, told, facts.now))), told, facts.now)


def _abandoned(recalled: Iterable[Attempt], told: Iterable[Attempt], now: datetime) -> Iterable[Attempt]:
    """The attempts, those in flight ended whose Incident somebody deleted: nobody will ever say what came of them."""
    ids = {attempt.id for attempt in told}
    for attempt in recalled:
        if attempt.finished is None and attempt.id not in ids:
            update = {"finished": now, "outcome": Outcome.INCONCLUSIVE, "message": "Its Incident was deleted."}
            yield attempt.model_copy(update=update)
        else:
            yield attempt


def status_view(overview: Overview, report: Report | None, claims: Iterable[LiveOperand], present: Json) -> Json:
    """Everything that the status says.

    Args:
        overview: the tick.
        report: what became of the operands; None when the mode is Disabled and nothing was tried.
        claims: the object's claims.
        present: the status as it is, for the times of conditions.
    """
    subject, now = overview.facts.subject, overview.facts.now
    conditions = object_conditions(overview, conditions_of(present))
    conditions = set_condition(
        conditions, "OperandsApplied", operands_applied(report), generation=subject.generation, now=now
    )
    for name, observed in protection_conditions(overview.facts.protection, now).items():
        conditions = set_condition(conditions, name, observed, generation=subject.generation, now=now)
    incidents = overview.incidents
    view: dict[str, object] = {
        "observedGeneration": subject.generation,
        "conditions": dump_conditions(conditions),
        "summary": summarize(overview).model_dump(mode="json"),
        "openIncidentCount": len(incidents),
        "openIncidents": [_open_incident(record) for record in incidents[:MAX_LISTED]],
        "recentAttempts": [_attempt(attempt) for attempt in overview.journal.attempts],
        "volumes": list(_volumes(overview.facts, claims, _recorded_nodes(present))),
        "backups": protection_view(overview.facts),
    }
    healthy = last_healthy(overview)
    if healthy is not None:
        view[LAST_HEALTHY] = healthy.model_dump(mode="json", by_alias=True, exclude_none=True)
    pause = overview.policy.pause_at(now)
    if pause is not None:
        view["paused"] = pause.reason[:MAX_MESSAGE]
    last = overview.last_attempt
    if last is not None:
        view["lastAction"] = _last_action(last)
    upcoming = next((action for turn in overview.turns if (action := _next_action(turn)) is not None), None)
    if upcoming is not None:
        view["nextAction"] = upcoming
    return view


def last_healthy(overview: Overview) -> HealthyRevision | None:
    """The revision to go back to, by the limits of the runbook that rolls back."""
    known = overview.facts.last_healthy
    limits = (turn.situation.limits for turn in overview.turns if turn.situation.runbook.name == RUNBOOK.name)
    return next((remembered(known, overview.facts, limit) for limit in limits), known)


def failed_view(present: Json, generation: int, observed: Mapping[str, Observed], now: datetime) -> Json:
    """The status as it is, with only these conditions changed: the tick found out nothing else."""
    conditions = conditions_of(present)
    for name, value in observed.items():
        conditions = set_condition(conditions, name, value, generation=generation, now=now)
    return {**present, "conditions": dump_conditions(conditions)}


def dump_conditions(conditions: tuple[Condition, ...]) -> list[object]:
    """As the API server takes them."""
    return [condition.model_dump(mode="json", by_alias=True) for condition in conditions]


def operands_applied(report: Report | None) -> Observed:
    """Whether all operands are as the spec asks; names the fields of others, which are never fought over."""
    if report is None:
        return Observed(
            status=Status.UNKNOWN, reason="Disabled", message="spec.remediation.mode is Disabled: nothing is applied."
        )
    if report.failures:
        message = " ".join(failure.describe() for failure in report.failures)
        return Observed(status=Status.FALSE, reason="ApplyFailed", message=message)
    if report.conflicts:
        message = "; ".join(conflict.describe() for conflict in report.conflicts)
        return Observed(
            status=Status.FALSE,
            reason="ApplyConflict",
            message=f"{message}. Their values stay. To hand the field back, set it to what the spec asks or drop it "
            "with the tool that set it.",
        )
    return Observed(status=Status.TRUE, reason="Applied", message="All operands are as the spec asks.")


def _open_incident(record: IncidentRecord) -> Json:
    return {
        "name": record.name,
        "runbook": record.runbook,
        "severity": str(record.severity),
        "since": record.opened_at.isoformat(),
        "message": record.timeline[-1].message[:MAX_MESSAGE] if record.timeline else "",
    }


def _attempt(attempt: Attempt) -> Json:
    shown = cast("dict[str, object]", attempt.model_dump(mode="json", by_alias=True, exclude_none=True))
    action = cast("dict[str, object]", shown["action"])
    return {**shown, "action": {**action, "message": attempt.action.describe()}}


def _last_action(attempt: Attempt) -> Json:
    action: dict[str, object] = {
        "action": attempt.action.describe()[:256],
        "incident": attempt.id.rpartition("-")[0],
        "at": attempt.started.isoformat(),
        "message": attempt.message[:MAX_MESSAGE],
    }
    return action if attempt.outcome is None else {**action, "outcome": str(attempt.outcome)}


def _next_action(turn: Turn) -> Json | None:
    """A step that is due at a known time."""
    decision = turn.decision
    if turn.incident is None or not isinstance(decision, Wait) or decision.until is None:
        return None
    return {
        "action": decision.reason[:256],
        "incident": turn.incident.name,
        "at": decision.until.isoformat(),
        "message": decision.message[:MAX_MESSAGE],
    }


def _recorded_nodes(present: Json) -> Mapping[object, str]:
    """Node by volume, as the status recalls it: a Job that runs while no pod does has to know where the volume is."""
    listed = cast("Iterable[Mapping[str, object]]", present.get("volumes") or ())
    return {volume.get("name"): str(volume["node"]) for volume in listed if volume.get("node")}


def _volumes(facts: Facts, claims: Iterable[LiveOperand], recorded: Mapping[object, str]) -> Iterable[Json]:
    by_name = {claim.metadata.name: claim for claim in claims}
    for volume, pods in (
        (DATABASE, facts.service_pods),
        (BACKUPS, facts.service_pods),
        (CHROMA, facts.chroma_pods),
    ):
        claim = by_name.get(claim_name(facts.subject.name, volume))
        if claim is None:
            continue
        shown: dict[str, object] = {"name": volume, "claim": claim.metadata.name}
        size = claim.status.capacity.get("storage")
        node = (_node(pods.value) if isinstance(pods, Known) else None) or recorded.get(volume)
        yield shown | ({"size": size} if size else {}) | ({"node": node} if node else {})


def _node(pods: tuple[Pod, ...]) -> str | None:
    return next((pod.node for pod in pods if pod.node is not None), None)
