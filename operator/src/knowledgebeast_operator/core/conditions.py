"""The conditions of one object (metav1.Condition), all of them from the first visit, `Unknown` included.

They are observations, not a state machine. One per runbook bears its name and is True while the incident goes on.
"""

import re
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from knowledgebeast_operator.core.chroma_views import DEGRADED
from knowledgebeast_operator.core.database_escalation import last_refusal
from knowledgebeast_operator.core.decision import Blocked, Wait
from knowledgebeast_operator.core.facts import Known, Unknown
from knowledgebeast_operator.core.guards import (
    SCHEDULED_TASK,
    exhausted_budget,
    first_switch,
    is_dry_run,
    worse_in_a_row,
)
from knowledgebeast_operator.core.overview import Overview, Turn
from knowledgebeast_operator.core.runbook import Detected, Mode, NotDetected, Runbook, Undetermined
from knowledgebeast_operator.core.series import fresh_series, is_young, ready_pods

NOT_ASSESSED: Final = "NotAssessed"
MAX_MESSAGE: Final = 32768


class Status(StrEnum):
    """Of a condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(BaseModel):
    """One metav1.Condition."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    type: str
    status: Status
    reason: str
    message: str
    observed_generation: int
    last_transition_time: datetime


class Observed(BaseModel):
    """A condition before it has a time: status, reason, message."""

    model_config = ConfigDict(frozen=True)

    status: Status
    reason: str
    message: str


def set_condition(
    conditions: tuple[Condition, ...], name: str, observed: Observed, *, generation: int, now: datetime
) -> tuple[Condition, ...]:
    """The conditions with this one replaced or added. Its transition time changes only with its status."""
    known = next((condition for condition in conditions if condition.type == name), None)
    since = known.last_transition_time if known is not None and known.status == observed.status else now
    condition = Condition(
        type=name,
        status=observed.status,
        reason=observed.reason,
        message=observed.message[:MAX_MESSAGE],
        observed_generation=generation,
        last_transition_time=since,
    )
    if known is None:
        return (*conditions, condition)
    return tuple(condition if old.type == name else old for old in conditions)


def object_conditions(overview: Overview, previous: tuple[Condition, ...] = ()) -> tuple[Condition, ...]:
    """All conditions of the object; those of others (and of runbooks that are gone) are left as they were."""
    observed = {
        "Ready": ready(overview),
        "Degraded": degraded(overview),
        "SignalsAvailable": signals_available(overview.turns),
        "RemediationAllowed": remediation_allowed(overview),
        "Reconciling": reconciling(overview),
        "Stalled": stalled(overview),
        "RestoreBlocked": restore_blocked(overview),
    } | {runbook.name: incident(runbook, overview.turns) for runbook in overview.runbooks}
    conditions = previous
    for name, value in observed.items():
        conditions = set_condition(
            conditions, name, value, generation=overview.facts.subject.generation, now=overview.facts.now
        )
    return conditions


def ready(overview: Overview) -> Observed:
    """Whether queries are answered now; keyword search alone is ready and degraded."""
    if overview.operands.is_applied is None:
        return Observed(status=Status.UNKNOWN, reason=NOT_ASSESSED, message="Not assessed yet.")
    if not overview.operands.is_applied:
        message = overview.operands.problem or overview.operands.in_progress or "Its objects are being applied."
        return Observed(status=Status.FALSE, reason="OperandsNotApplied", message=message)
    if overview.operands.bootstrap is not None:
        filling = overview.operands.bootstrap
        return Observed(status=Status.FALSE, reason=filling.reason, message=filling.message)
    if overview.operands.fenced_for is not None:
        message = f"No service pod runs: {overview.operands.fenced_for} needs the database alone."
        return Observed(status=Status.FALSE, reason="Fenced", message=message)
    pods = overview.facts.service_pods
    if isinstance(pods, Unknown):
        return Observed(status=Status.UNKNOWN, reason=pods.reason, message=pods.message)
    answering = [pod for pod in pods.value if pod.is_ready and not pod.is_terminating]
    message = f"{len(answering)} of {overview.operands.desired_service_pods} service pods are ready."
    if not answering:
        return Observed(status=Status.FALSE, reason="NoServicePodReady", message=message)
    return Observed(status=Status.TRUE, reason="Serving", message=message)


def degraded(overview: Overview) -> Observed:
    """Whether a ready service pod answers from keyword search alone."""
    facts = overview.facts
    pods = ready_pods(facts.service_pods, "service")
    if isinstance(pods, Unknown):
        return Observed(status=Status.UNKNOWN, reason=pods.reason, message=pods.message)
    modes = {pod: fresh_series(facts.degraded_mode, DEGRADED, pod.name, facts) for pod in pods}
    reduced = [pod.name for pod, mode in modes.items() if isinstance(mode, Known) and mode.value[-1].value >= 1]
    if reduced:
        message = f"Keyword search only, without vectors, on {', '.join(reduced)}."
        return Observed(status=Status.TRUE, reason="KeywordSearchOnly", message=message)
    heard = [mode for mode in modes.values() if isinstance(mode, Known)]
    missing = [m for pod, m in modes.items() if isinstance(m, Unknown) and not (heard and is_young(pod, facts.now))]
    if missing:
        return Observed(status=Status.UNKNOWN, reason=missing[0].reason, message=missing[0].message)
    return Observed(status=Status.FALSE, reason="FullService", message=f"Hybrid search on {len(heard)} service pods.")


def signals_available(turns: tuple[Turn, ...]) -> Observed:
    """Whether every runbook can tell; False names the first signal that cannot be read."""
    if not turns:
        return Observed(status=Status.UNKNOWN, reason=NOT_ASSESSED, message="Not assessed yet.")
    missing = [
        unknown
        for turn in turns
        if isinstance(turn.situation.diagnosis, Undetermined)
        for unknown in turn.situation.diagnosis.unknown
    ]
    if missing:
        message = _sentences(f"{unknown.signal}: {unknown.message}" for unknown in missing)
        return Observed(status=Status.FALSE, reason=missing[0].reason, message=message)
    return Observed(status=Status.TRUE, reason="AllSignalsFresh", message="Every signal is fresh.")


def remediation_allowed(overview: Overview) -> Observed:
    """Whether the operator would act; False says what forbids it, by will, by limit or for a time."""
    if not overview.turns:
        return Observed(status=Status.UNKNOWN, reason=NOT_ASSESSED, message="Not assessed yet.")
    for turn in overview.turns:
        refusal = first_switch(turn.situation) or _limit(turn) or _dry_run(turn)
        if refusal is not None:
            return Observed(status=Status.FALSE, reason=refusal.reason, message=refusal.message)
    for turn in overview.turns:
        if isinstance(turn.decision, Blocked) or (isinstance(turn.decision, Wait) and _is_refusal(turn.decision)):
            return Observed(status=Status.FALSE, reason=turn.decision.reason, message=turn.decision.message)
    return Observed(status=Status.TRUE, reason="Allowed", message="The operator acts when an incident needs it.")


def reconciling(overview: Overview) -> Observed:
    """Whether something is still on its way to the desired state (kstatus)."""
    work = next(iter(overview.facts.own_work), None)
    if work is not None:
        return Observed(status=Status.TRUE, reason=work.kind, message=work.message)
    if overview.operands.is_applied is None:
        return Observed(status=Status.TRUE, reason=NOT_ASSESSED, message="Not assessed yet.")
    if overview.operands.bootstrap is not None:
        return Observed(status=Status.TRUE, reason="Bootstrap", message=overview.operands.bootstrap.message)
    if overview.operands.in_progress is not None:
        return Observed(status=Status.TRUE, reason="InProgress", message=overview.operands.in_progress)
    return Observed(status=Status.FALSE, reason="UpToDate", message="Everything is as the spec asks.")


def stalled(overview: Overview) -> Observed:
    """Whether a human is needed (kstatus)."""
    if overview.operands.problem is not None:
        return Observed(status=Status.TRUE, reason="OperandsNotApplied", message=overview.operands.problem)
    bootstrap = overview.operands.bootstrap
    if bootstrap is not None and bootstrap.needs_a_human:
        return Observed(status=Status.TRUE, reason=bootstrap.reason, message=bootstrap.message)
    calls = [(found.name, found.call) for found in overview.incidents if found.call is not None]
    if calls:
        message = _sentences(f"{name}: {call.message} {call.next_step}" for name, call in calls)
        return Observed(status=Status.TRUE, reason="Escalated", message=message)
    problems = overview.policy.object_problems([runbook.name for runbook in overview.runbooks])
    problems += tuple(problem for turn in overview.turns for problem in turn.situation.problems)
    if problems:
        message = _sentences(dict.fromkeys(f"{problem.field}: {problem.message}" for problem in problems))
        return Observed(status=Status.TRUE, reason="InvalidPolicy", message=message)
    return Observed(status=Status.FALSE, reason="NoHumanNeeded", message="Nothing waits for a human.")


def restore_blocked(overview: Overview) -> Observed:
    """Whether a damaged database waits for a backup that can be restored."""
    for found in overview.incidents:
        refusal = last_refusal(found)
        if refusal is not None:
            message = f"{found.name}: {refusal.message}"
            return Observed(status=Status.TRUE, reason=refusal.reason, message=message)
    if not overview.turns:
        return Observed(status=Status.UNKNOWN, reason=NOT_ASSESSED, message="Not assessed yet.")
    return Observed(status=Status.FALSE, reason="NotBlocked", message="No restore waits for a backup.")


def incident(runbook: Runbook, turns: tuple[Turn, ...]) -> Observed:
    """Whether this runbook's incident goes on. Good signals make it False before the incident closes."""
    turn = next((turn for turn in turns if turn.situation.runbook.name == runbook.name), None)
    if turn is None:
        return Observed(status=Status.UNKNOWN, reason=NOT_ASSESSED, message="Not assessed yet.")
    is_open = turn.incident is not None and turn.incident.is_open
    match turn.situation.diagnosis:
        case Undetermined(unknown=unknown):
            return Observed(
                status=Status.UNKNOWN, reason=unknown[0].reason, message=_sentences(fact.message for fact in unknown)
            )
        case NotDetected(message=message) if is_open:
            return Observed(status=Status.FALSE, reason="Recovering", message=message)
        case NotDetected(message=message, is_told=True):
            return Observed(status=Status.FALSE, reason="NotDetected", message=message)
        case NotDetected(reason=reason):
            return Observed(status=Status.FALSE, reason="NotDetected", message=_in_words(reason))
        case Detected(reason=reason, message=message) if is_open:
            return Observed(status=Status.TRUE, reason=reason, message=message)
        case Detected(message=message):
            reason = turn.decision.reason if isinstance(turn.decision, Wait) else "Suspected"
            return Observed(status=Status.FALSE, reason=reason, message=message)


def _in_words(reason: str) -> str:
    """`FewQueries` as a sentence. Nothing with figures: an object to which nothing happens is not written."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", reason).capitalize() + "."


def _limit(turn: Turn) -> Blocked | None:
    worse = worse_in_a_row(turn.situation)
    if worse is not None:
        return Blocked(worse.escalation.reason, f"{worse.escalation.message} {worse.escalation.next_step}")
    spent = exhausted_budget(turn.situation)
    return None if spent is None else Blocked(spent.reason, spent.message)


def _dry_run(turn: Turn) -> Blocked | None:
    if not is_dry_run(turn.situation):
        return None
    whose = "spec.remediation" if turn.situation.policy.mode is Mode.DRY_RUN else turn.situation.runbook.name
    return Blocked("DryRun", f"The mode of {whose} is DryRun: attempts are written down and not carried out.")


def _is_refusal(wait: Wait) -> bool:
    """A guard that waits, as opposed to a step of an attempt or of the incident that takes its time."""
    return wait.reason in {
        "OwnWork",
        SCHEDULED_TASK,
        "TargetBusy",
        "OutsideMaintenanceWindow",
        "CoolingDown",
        "BudgetExhausted",
    }


def _sentences(parts: Iterable[str]) -> str:
    return " ".join(parts)
