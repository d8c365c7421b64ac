"""What can forbid an action, in the order in which it is asked. The first objection counts.

Each guard is a pure function of a proposal and says None, or why not: `Blocked` by somebody's will, `Wait` for a time,
`Escalate` when the means are used up and a human has to decide.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeAlias

from knowledgebeast_operator.core import journal as journals
from knowledgebeast_operator.core.actions import (
    Action,
    PutFields,
    RestartPod,
    RollingRestart,
    RunFencedTask,
    RunTask,
    SetFields,
)
from knowledgebeast_operator.core.decision import Blocked, Escalate, Wait
from knowledgebeast_operator.core.facts import OwnWork
from knowledgebeast_operator.core.ledger import Escalation, IncidentRecord, Outcome, Severity
from knowledgebeast_operator.core.runbook import Mode, Option
from knowledgebeast_operator.core.situation import Situation
from knowledgebeast_operator.core.windows import is_open_at, next_start
from knowledgebeast_operator.custom_resource import format_duration
from knowledgebeast_operator.custom_resource.names import RESUME_ANNOTATION

MAX_RESTARTS: Final = 3
"""Of one workload in an hour over all incidents: restarting a broken index again only fills the disk (incident 2)."""

RESTART_PERIOD: Final = timedelta(hours=1)

MAX_WORSE_IN_A_ROW: Final = 2

OWN_WORK_EXPLAINS_FOR: Final = timedelta(minutes=15)
"""A rollout that has not ended by then does not excuse an outage any longer (runbook map, "Cause before symptom")."""

ATTEMPTS_EXHAUSTED: Final = "AttemptsExhausted"
RESTART_LOOP: Final = "RestartLoop"
SCHEDULED_TASK: Final = "ScheduledTask"

DISTURBING: Final = frozenset({"clean", "partition", "vacuum"})
"""Tasks of an attempt that write much, or take a volume's locks, beside a task that runs by the clock."""

MADE_WORSE: Final = "MadeWorse"


@dataclass(frozen=True, slots=True)
class Proposal:
    """An option that fits, and what it would do."""

    situation: Situation
    incident: IncidentRecord
    option: Option
    action: Action
    needs_approval: str | None = None  # why a person has to allow it
    inverse: SetFields | PutFields | None = None
    passed_over: tuple[tuple[str, str], ...] = ()  # options before it that did not fit, and why


Objection: TypeAlias = Blocked | Wait | Escalate
Guard: TypeAlias = Callable[[Proposal], Objection | None]
Switch: TypeAlias = Callable[[Situation], Blocked | None]


def is_disabled(situation: Situation) -> Blocked | None:
    if situation.policy.mode is not Mode.DISABLED:
        return None
    return Blocked("Disabled", "spec.remediation.mode is Disabled; set it to Enforce to let the operator act.")


def is_paused(situation: Situation) -> Blocked | None:
    pause = situation.policy.pause_at(situation.now)
    if pause is None:
        return None
    end = f"until {pause.until:%Y-%m-%d %H:%M %Z}" if pause.until else "until somebody takes the pause away"
    return Blocked("Paused", f"Paused {end}: {pause.reason}.")


def is_runbook_disabled(situation: Situation) -> Blocked | None:
    if situation.limits.mode is not Mode.DISABLED:
        return None
    name = situation.runbook.name
    return Blocked("RunbookDisabled", f"spec.remediation.runbooks[{name}].mode is Disabled; set it to Enforce.")


def has_policy_problem(situation: Situation) -> Blocked | None:
    if not situation.problems:
        return None
    return Blocked("InvalidPolicy", " ".join(f"{problem.field}: {problem.message}" for problem in situation.problems))


SWITCHES: Final[tuple[Switch, ...]] = (
    is_disabled,  # Make sure that the kill switch wins over everything.
    is_paused,  # Make sure that a person who works on the object is left alone.
    is_runbook_disabled,
    has_policy_problem,  # Make sure that nothing is done with another setting than the one asked for.
)
"""What people can set. Asked again right before an action is sent."""


def has_used_all_attempts(proposal: Proposal) -> Escalate | None:
    """Of this incident. Attempts that were withdrawn count too, or a flickering signal could make any number."""
    situation = proposal.situation
    uncounted = (Outcome.DRY_RUN, Outcome.DIAGNOSED)
    used = [attempt for attempt in proposal.incident.attempts if attempt.outcome not in uncounted]
    if len(used) < situation.limits.max_attempts:
        return None
    last = used[-1]
    return _escalate(
        situation,
        ATTEMPTS_EXHAUSTED,
        f"{len(used)} of {situation.limits.max_attempts} attempts did not help. "
        f"The last one, {last.option}: {last.outcome}. {last.message}",
        "Look at the timeline of this incident and at the pod's log; the operator will not act on it again.",
    )


def is_restart_loop(proposal: Proposal) -> Escalate | None:
    """At most three restarts of one workload in an hour, whichever incidents asked for them."""
    situation = proposal.situation
    if proposal.action.type not in journals.RESTARTS:
        return None
    pod = proposal.action.target.name
    restarts = journals.restarts_since(situation.journal, situation.now - RESTART_PERIOD, pod)
    if len(restarts) < MAX_RESTARTS:
        return None
    return _escalate(
        situation,
        RESTART_LOOP,
        f"{pod} was restarted {len(restarts)} times within {format_duration(RESTART_PERIOD)}, "
        f"which is the limit; the first was at {restarts[0].started:%H:%M:%S %Z}.",
        f"Read the log of the last run (kubectl logs {pod} --previous) and check its volume: "
        "a restart does not cure a broken index or a full disk.",
    )


def has_made_things_worse(proposal: Proposal) -> Escalate | None:
    """Two actions in a row that made things worse stop the whole object until a human arms it again."""
    return worse_in_a_row(proposal.situation)


def worse_in_a_row(situation: Situation) -> Escalate | None:
    worse = journals.consecutive_worse(situation.journal, situation.policy.resumed_at)
    if len(worse) < MAX_WORSE_IN_A_ROW:
        return None
    ids = ", ".join(attempt.id for attempt in worse)
    return _escalate(
        situation,
        MADE_WORSE,
        f"{len(worse)} actions in a row made things worse ({ids}), so the operator has stopped.",
        f"Find out why; then annotate the object with {RESUME_ANNOTATION}=<the time, such as 2026-12-01T00:00:00Z>.",
    )


def is_own_work_in_progress(proposal: Proposal) -> Wait | None:
    """Prevents that a restart hits a rollout, a resize or a drain half-way."""
    work = own_work_in_progress(proposal.situation, besides=proposal.option.cuts_short)
    if work is None:
        return None
    return Wait("OwnWork", f"{work.kind} in progress: {work.message}", until=work.since + OWN_WORK_EXPLAINS_FOR)


def own_work_in_progress(situation: Situation, *, besides: frozenset[str] = frozenset()) -> OwnWork | None:
    """Work on the runbook's component, of other kinds than `besides`, that is young enough to explain its symptoms."""
    component = situation.runbook.component
    return next(
        (
            work
            for work in situation.facts.own_work
            if work.kind not in besides
            and (not component or work.component in ("", component))
            and situation.now < work.since + OWN_WORK_EXPLAINS_FOR
        ),
        None,
    )


def disturbs_scheduled_task(proposal: Proposal) -> Wait | None:
    """Prevents that a backup is cut off, or that two tasks pull at one volume. One that does not end holds nothing up.

    P0 does not wait, but for the fence: that needs the task's volume for itself, and would only give up.
    """
    is_critical = proposal.incident.severity is Severity.P0 and not isinstance(proposal.action, RunFencedTask)
    if is_critical or not _disturbs(proposal.action):
        return None
    now = proposal.situation.now
    running = [work for work in proposal.situation.facts.scheduled if now < work.since + OWN_WORK_EXPLAINS_FOR]
    if not running:
        return None
    last = max(running, key=lambda work: work.since)
    until = last.since + OWN_WORK_EXPLAINS_FOR
    message = f"{last.kind} has been running since {last.since:%H:%M:%S %Z} ({last.message})"
    return Wait(
        SCHEDULED_TASK,
        f"{message}. {proposal.option.name} waits for its end, at most until {until:%H:%M:%S %Z}.",
        until,
    )


def _disturbs(action: Action) -> bool:
    match action:
        case RestartPod() | RollingRestart() | RunFencedTask():
            return True
        case RunTask(task=task):
            return task in DISTURBING
        case SetFields() | PutFields():
            return False


def is_target_busy(proposal: Proposal) -> Wait | None:
    """One action at a time per target, whichever incident it belongs to."""
    other = journals.in_flight_on(proposal.situation.journal, proposal.action.target)
    if other is None:
        return None
    return Wait("TargetBusy", f"Attempt {other.id} ({other.option}) on {other.action.target.name} has not ended.")


def is_outside_maintenance_window(proposal: Proposal) -> Blocked | Wait | None:
    """P0 does not wait for a window: its users have no vector search, or no data."""
    situation = proposal.situation
    windows = situation.policy.windows
    if proposal.incident.severity is Severity.P0 or not proposal.option.is_disruptive or not windows:
        return None
    if any(is_open_at(window, situation.now) for window in windows):
        return None
    start = next_start(windows, situation.now)
    when = f"{start:%Y-%m-%d %H:%M %Z}" if start else "not known"
    return Wait(
        "OutsideMaintenanceWindow", f"{proposal.option.name} waits for a maintenance window; next: {when}.", until=start
    )


def is_cooling_down(proposal: Proposal) -> Wait | None:
    """P0 does not wait: it is limited by attempts and by the restarts in an hour."""
    situation = proposal.situation
    if proposal.incident.severity is Severity.P0:
        return None
    options = {option.name for option in situation.runbook.options}
    recent = [
        attempt
        for attempt in journals.actions_since(situation.journal, situation.now - situation.limits.cooldown)
        if attempt.option in options
    ]
    if not recent:
        return None
    until = journals.last_moment(recent[-1]) + situation.limits.cooldown
    return Wait(
        "CoolingDown",
        f"{recent[-1].option} ended less than {format_duration(situation.limits.cooldown)} ago; "
        f"the next attempt can begin at {until:%H:%M:%S %Z}.",
        until=until,
    )


def is_budget_exhausted(proposal: Proposal) -> Wait | None:
    """Over all runbooks of the object, P0 too: an operator in a loop is an incident of its own."""
    return exhausted_budget(proposal.situation)


def exhausted_budget(situation: Situation) -> Wait | None:
    budget = situation.policy.budget
    spent = journals.actions_since(situation.journal, situation.now - budget.per)
    if len(spent) < budget.max_actions:
        return None
    until = journals.last_moment(spent[-budget.max_actions]) + budget.per
    return Wait(
        "BudgetExhausted",
        f"{len(spent)} of {budget.max_actions} actions per {format_duration(budget.per)} are used up; "
        f"the next one can begin at {until:%H:%M:%S %Z}.",
        until=until,
    )


CHAIN: Final[tuple[Guard, ...]] = (
    has_made_things_worse,  # Make sure that an operator that does harm stops, whatever the incident.
    has_used_all_attempts,  # Make sure that a human is called when the means of this incident are used up.
    is_restart_loop,  # Make sure that no outage is answered with restarts for ever.
    is_own_work_in_progress,  # Make sure that our own work is not taken for a fault.
    disturbs_scheduled_task,  # Make sure that no backup is cut off, and no restart answers its load.
    is_target_busy,  # Make sure that two runbooks do not pull at one pod.
    is_outside_maintenance_window,
    is_cooling_down,
    is_budget_exhausted,
)
"""Asked before an attempt begins, after the switches."""


def first_switch(situation: Situation) -> Blocked | None:
    """The first switch that is off."""
    return next((blocked for switch in SWITCHES if (blocked := switch(situation)) is not None), None)


def first_objection(proposal: Proposal, guards: tuple[Guard, ...] = CHAIN) -> Objection | None:
    """The first objection of the switches and these guards; None lets the attempt begin."""
    blocked = first_switch(proposal.situation)
    if blocked is not None:
        return blocked
    return next((objection for guard in guards if (objection := guard(proposal)) is not None), None)


def is_dry_run(situation: Situation) -> bool:
    """Whether attempts are only written down, by the object's mode or the runbook's."""
    return Mode.DRY_RUN in (situation.policy.mode, situation.limits.mode)


def _escalate(situation: Situation, reason: str, message: str, next_step: str) -> Escalate:
    return Escalate(Escalation(at=situation.now, reason=reason, message=message, next_step=next_step))
