"""Four sentences about one object: what is wrong, what was done, what comes next and when, what is needed from you."""

from pydantic import BaseModel, ConfigDict

from knowledgebeast_operator.core.decision import (
    Begin,
    Blocked,
    Conclude,
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
from knowledgebeast_operator.core.ledger import Attempt, IncidentRecord
from knowledgebeast_operator.core.overview import Overview, Turn
from knowledgebeast_operator.core.runbook import Detected, Undetermined

MAX_LENGTH = 1024
"""The bound of the schema (crds/knowledgebeasts.yaml)."""


class Summary(BaseModel):
    """`status.summary`."""

    model_config = ConfigDict(frozen=True)

    problem: str
    done: str
    next: str
    needed: str


def summarize(overview: Overview) -> Summary:
    """The four sentences, each cut to what the schema takes."""
    turn = _worst_turn(overview)
    return Summary(
        problem=_problem(overview, turn)[:MAX_LENGTH],
        done=_done(overview)[:MAX_LENGTH],
        next=_next(turn)[:MAX_LENGTH],
        needed=_needed(overview, turn)[:MAX_LENGTH],
    )


def _worst_turn(overview: Overview) -> Turn | None:
    """The turn that a reader should hear about: the worst incident, else a suspicion, else what is unknown."""
    if overview.incidents:
        return next(turn for turn in overview.turns if turn.incident == overview.incidents[0])
    for kind in (Detected, Undetermined):
        for turn in overview.turns:
            if isinstance(turn.situation.diagnosis, kind):
                return turn
    return next(iter(overview.turns), None)


def _problem(overview: Overview, turn: Turn | None) -> str:
    if overview.operands.problem is not None:
        return overview.operands.problem
    if overview.operands.bootstrap is not None:
        return overview.operands.bootstrap.message
    if turn is None:
        return "Not assessed yet."
    others = len(overview.incidents) - 1
    also = f" {others} more incidents are open." if others > 0 else ""
    return f"{_what_is_wrong(turn, turn.incident)}{also}"


def _what_is_wrong(turn: Turn, incident: IncidentRecord | None) -> str:
    name = turn.situation.runbook.name
    match turn.situation.diagnosis:
        case Undetermined(unknown=unknown):
            return f"Whether there is {name} is unknown: {unknown[0].message}"
        case Detected(message=message):
            return f"{name}: {message}" if incident is not None else f"Perhaps {name}: {message}"
        case diagnosis:
            return f"{name} is over for now: {diagnosis.message}" if incident is not None else "Nothing is wrong."


def _done(overview: Overview) -> str:
    attempt = overview.last_attempt
    if attempt is None:
        return "Nothing had to be done recently."
    return f"{attempt.started:%Y-%m-%d %H:%M:%S %Z} {attempt.option} ({attempt.id}): {_how_it_went(attempt)}"


def _how_it_went(attempt: Attempt) -> str:
    if attempt.outcome is not None:
        return f"{attempt.outcome}. {attempt.message}"
    return "carried out, its effect is awaited." if attempt.acted is not None else "written down, about to be sent."


def _next(turn: Turn | None) -> str:
    if turn is None:
        return "The object is assessed for the first time."
    match turn.decision:
        case Healthy():
            return "The operator watches."
        case Open():
            return "An incident opens and its options are considered at once."
        case Wait(message=message, until=until):
            return f"{message} (until {until:%H:%M:%S %Z})" if until is not None else message
        case Blocked(message=message):
            return f"Nothing is done. {message}"
        case Begin(attempt=attempt) | Perform(attempt=attempt):
            return f"Now: {attempt.action.describe()}."
        case Revert(attempt=attempt) | Undo(attempt=attempt):
            return f"Now: undo {attempt.option} ({attempt.id}), which did not help."
        case Conclude(attempt=attempt):
            return f"After {attempt.id} ({attempt.outcome}) the signals decide."
        case Escalate(escalation=escalation):
            return f"A human is called ({escalation.reason})."
        case Worsen(severity=severity, message=message):
            return f"The incident is {severity} from now on. {message}"
        case Resolve(message=message):
            return f"The incident closes. {message}"
        case Uncertain(message=message):
            return f"Nothing is done until the signals are back. {message}"


def _needed(overview: Overview, turn: Turn | None) -> str:
    if overview.operands.problem is not None:
        return overview.operands.problem
    if overview.operands.bootstrap is not None and overview.operands.bootstrap.needs_a_human:
        return overview.operands.bootstrap.message
    for incident in overview.incidents:
        if incident.call is not None:
            return incident.call.next_step
    if turn is not None and isinstance(turn.situation.diagnosis, Undetermined):
        unknown = turn.situation.diagnosis.unknown[0]
        return f"If it stays so: bring back {unknown.signal} ({unknown.reason})."
    if turn is not None and isinstance(turn.decision, Blocked):
        return turn.decision.message
    return "Nothing."
