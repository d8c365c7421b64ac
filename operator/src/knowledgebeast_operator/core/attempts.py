"""What becomes of an attempt that has been written down: sent, withdrawn, or judged by its effect.

written ──► target still there, signal still bad, nothing switched off ──► Perform
   │        signal cleared, or somebody switched the operator off      ──► Conclude Blocked: nothing was sent
   │        a person has to allow it and has not                       ──► Wait
   │        it has taken its first step (a task)                       ──► Perform, until it is done
   └──────► target gone, or its fields are in force: only the note was lost ──┐
acted ──────────────────────────────────────────────────────────────┴► settle ► verify ► Conclude
                                                     no better, and it has an inverse └► Revert ► Undo
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from knowledgebeast_operator.core.actions import RestartPod, SetFields, StepByStep, Target
from knowledgebeast_operator.core.approvals import grant
from knowledgebeast_operator.core.decision import (
    Conclude,
    Decision,
    Escalate,
    Perform,
    Revert,
    Uncertain,
    Undo,
    Wait,
)
from knowledgebeast_operator.core.facts import Facts, Unknown
from knowledgebeast_operator.core.guards import first_switch, is_disabled, is_dry_run
from knowledgebeast_operator.core.journal import without
from knowledgebeast_operator.core.ledger import ApprovalRequest, Attempt, Escalation, Outcome, TaskReport
from knowledgebeast_operator.core.overlays import is_in_force
from knowledgebeast_operator.core.runbook import (
    Applicable,
    Detected,
    Effect,
    Limits,
    NotApplicable,
    NotDetected,
    NothingToDo,
    Option,
    Pause,
    Undetermined,
    Verdict,
)
from knowledgebeast_operator.core.situation import Situation

CLAIM_GRACE: Final = timedelta(seconds=15)
"""For so long an attempt that another operator has claimed is left to it; then that operator is taken for dead."""

AWAITING_APPROVAL: Final = "AwaitingApproval"
SETTLING: Final = "Settling"
VERIFYING: Final = "Verifying"


class Carried(StrEnum):
    """Whether an attempt that nobody has noted as carried out was."""

    OUT = "Out"
    NOT_YET = "NotYet"
    UNKNOWN = "Unknown"


def settled_at(attempt: Attempt, limits: Limits) -> datetime:
    """From when on the effect is judged: before, the action's own outage would be taken for a failure."""
    return (attempt.acted or attempt.started) + limits.settle


def deadline(attempt: Attempt, limits: Limits) -> datetime:
    """When an attempt that shows no effect has failed."""
    return settled_at(attempt, limits) + limits.verify_timeout


def follow(situation: Situation, attempt: Attempt) -> Decision:
    """The next step of the attempt in flight."""
    option = situation.runbook.option(attempt.option)
    if option is None:
        message = f"This version of the operator has no option {attempt.option}, so it cannot tell what it did."
        return _conclude(situation, attempt, Outcome.INCONCLUSIVE, message)
    if attempt.undoing is not None:
        return is_disabled(situation) or Undo(attempt)
    if attempt.acted is not None:
        return _judge(situation, option, attempt)
    if is_under_way(situation.facts, attempt):
        return _go_on(situation, attempt)
    match carried_out(situation.facts, attempt):
        case Carried.OUT:
            # The operator died between sending and noting it. The start is the earliest moment that it can have been.
            return _judge(situation, option, attempt.model_copy(update={"acted": attempt.started}))
        case Carried.UNKNOWN:
            return _await_facts(situation, attempt)
        case Carried.NOT_YET:
            return _begin(situation, option, attempt)


def carried_out(facts: Facts, attempt: Attempt) -> Carried:
    """What the cluster shows of an attempt without a note. A pod that is being deleted counts as gone.

    Of an action that can be repeated and leaves no trace of its own, such as PutFields, nothing shows: it is repeated.
    """
    match attempt.action:
        case RestartPod(target=target):
            return _is_gone(facts, target)
        case SetFields():
            return Carried.OUT if is_in_force(facts.overlays, attempt) else Carried.NOT_YET
        case _:
            return Carried.NOT_YET


def _is_gone(facts: Facts, target: Target) -> Carried:
    if isinstance(facts.chroma_pods, Unknown) or isinstance(facts.service_pods, Unknown):
        return Carried.UNKNOWN
    pods = (*facts.chroma_pods.value, *facts.service_pods.value)
    is_present = any(pod.uid == target.uid and not pod.is_terminating for pod in pods)
    return Carried.NOT_YET if is_present else Carried.OUT


def is_under_way(facts: Facts, attempt: Attempt) -> bool:
    """Whether a task has taken its first step. The fence and its pod say so too when the note of it was lost."""
    if not isinstance(attempt.action, StepByStep):
        return False
    is_fenced = facts.fence is not None and facts.fence.attempt == attempt.id
    return attempt.begun is not None or is_fenced or attempt.id in facts.started


def _go_on(situation: Situation, attempt: Attempt) -> Decision:
    """A task is brought to its end: half-way the signals are those of its own making. Only the kill switch holds it."""
    return is_disabled(situation) or Perform(attempt.model_copy(update={"begun": attempt.begun or attempt.started}))


def _begin(situation: Situation, option: Option, attempt: Attempt) -> Decision:
    """It is sent, with a person's consent where it is needed; of a task this is the first step."""
    decision = _send_or_withdraw(situation, option, attempt)
    if not isinstance(decision, Perform) or attempt.approval is None or situation.incident is None:
        return decision
    approval = grant(situation.approvals, situation.incident.name, attempt, situation.now)
    if approval is None:
        return _ask(situation, attempt, attempt.approval)
    granted = attempt.approval.model_copy(update={"granted_by": approval.name})
    return Perform(attempt.model_copy(update={"approval": granted}))


def _ask(situation: Situation, attempt: Attempt, asked: ApprovalRequest) -> Decision:
    incident = situation.incident
    message = f"{attempt.option} ({attempt.id}) needs an approval: {asked.reason}"
    if incident is None or incident.is_manual or incident.escalation is not None:
        return Wait(AWAITING_APPROVAL, message)
    return Escalate(
        Escalation(
            at=situation.now,
            reason=AWAITING_APPROVAL,
            message=message,
            next_step=f"If it shall be done, create an IncidentApproval for incident {incident.name}, attempt "
            f"{attempt.id}, evidenceHash {asked.evidence_hash}.",
        )
    )


def _await_facts(situation: Situation, attempt: Attempt) -> Decision:
    if situation.now < deadline(attempt, situation.limits):
        return Uncertain(f"Whether {attempt.id} was carried out is unknown: the pods cannot be listed.")
    message = "The pods could not be listed, so nobody knows whether it was carried out."
    return _conclude(situation, attempt, Outcome.INCONCLUSIVE, message)


def _send_or_withdraw(situation: Situation, option: Option, attempt: Attempt) -> Decision:
    """Level, not edge: what was true when the attempt was written down is asked again before it is sent."""
    blocked = first_switch(situation)
    if blocked is not None:
        return _withdraw(situation, attempt, blocked.message)
    if is_dry_run(situation):
        return _withdraw(situation, attempt, "The mode was changed to DryRun.")
    if situation.now >= deadline(attempt, situation.limits) and attempt.approval is None:
        return _withdraw(situation, attempt, "It was not carried out in time; it is decided anew.")
    match situation.diagnosis:
        case NotDetected(message=message):
            return _withdraw(situation, attempt, f"The signal cleared by itself. {message}")
        case Undetermined(unknown=unknown):
            return Uncertain(" ".join(fact.message for fact in unknown))
        case Detected() as detected:
            return _send(situation, option, attempt, detected)


def _send(situation: Situation, option: Option, attempt: Attempt, detected: Detected) -> Decision:
    journal = without(situation.journal, attempt)
    match option.consider(situation.facts, detected, journal, situation.limits):
        case Pause(reason=reason, message=message, wait=wait):
            return Wait(reason, message, until=situation.now + wait)
        case NotApplicable(message=message) | NothingToDo(message=message):
            return _withdraw(situation, attempt, f"{option.name} no longer fits. {message}")
        case Applicable(action=action) if action != attempt.action:
            return _withdraw(situation, attempt, f"It would now be another action: {action.describe()}.")
        case Applicable():
            pass
    free_at = attempt.started + CLAIM_GRACE
    if attempt.claimed_by != situation.operator and situation.now < free_at:
        return Wait("ClaimedByAnother", f"{attempt.claimed_by} has claimed {attempt.id}.", until=free_at)
    return Perform(attempt)


def _judge(situation: Situation, option: Option, attempt: Attempt) -> Decision:
    limits = situation.limits
    if attempt.report is not None and not _may_have_helped(option, attempt.report):
        return _conclude(situation, attempt, _reported(option, attempt.report), attempt.report.message)
    until = settled_at(attempt, limits)
    if situation.now < until:
        return Wait(
            SETTLING, f"{option.name} was carried out; its effect is judged from {until:%H:%M:%S %Z} on.", until
        )
    verdict = option.verify(situation.facts, attempt, limits)
    outcome = _outcome(verdict, is_over=situation.now >= deadline(attempt, limits))
    if outcome is None:
        until = deadline(attempt, limits)
        return Wait(VERIFYING, f"{verdict.message} It has until {until:%H:%M:%S %Z}.", until)
    if outcome is Outcome.FAILED and attempt.inverse is not None:
        return Revert(_judged(situation, attempt, verdict.message))
    return _conclude(situation, attempt, outcome, verdict.message)


def _may_have_helped(option: Option, report: TaskReport) -> bool:
    """Whether the signals have to say what came of a task, and not its own words alone."""
    is_partly_done = option.has_done_some is not None and not report.refused and option.has_done_some(report)
    return option.is_remedy and (report.ok or is_partly_done)


def _reported(option: Option, report: TaskReport) -> Outcome:
    """What a task's own words mean where no effect has to be awaited."""
    if not option.is_remedy and report.has_result and not report.refused:
        return Outcome.DIAGNOSED
    return Outcome.BLOCKED if report.refused else Outcome.FAILED


def _outcome(verdict: Verdict, *, is_over: bool) -> Outcome | None:
    """Pending and unknown have until the deadline; the rest is final. Unknown is never counted as success."""
    match verdict.effect:
        case Effect.BETTER:
            return Outcome.SUCCESSFUL
        case Effect.WORSE | Effect.NO_CHANGE:
            return Outcome.FAILED
        case Effect.UNKNOWN:
            return Outcome.INCONCLUSIVE if is_over else None
        case Effect.PENDING:
            return Outcome.FAILED if is_over else None


def _withdraw(situation: Situation, attempt: Attempt, why: str) -> Conclude:
    """Nothing was sent, which is known: no success to claim, and nothing inconclusive to call a human for."""
    return _conclude(situation, attempt, Outcome.BLOCKED, f"Not carried out. {why}")


def _conclude(situation: Situation, attempt: Attempt, outcome: Outcome, message: str) -> Conclude:
    judged = _judged(situation, attempt, message)
    return Conclude(judged.model_copy(update={"finished": situation.now, "outcome": outcome}))


def _judged(situation: Situation, attempt: Attempt, message: str) -> Attempt:
    after = situation.runbook.slis(situation.facts)
    return attempt.model_copy(update={"message": message, "after": after})
