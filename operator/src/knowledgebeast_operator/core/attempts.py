"""What becomes of an attempt that has been written down: sent, withdrawn, or judged by its effect.

written ──► target still there, signal still bad, nothing switched off ──► Perform
   │        signal cleared, or somebody switched the operator off      ──► Conclude Blocked: nothing was sent
   └──────► target gone: it was carried out and only the note was lost ─┐
acted ──────────────────────────────────────────────────────────────────┴► settle ► verify ► Conclude
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from knowledgebeast_operator.core.actions import Target
from knowledgebeast_operator.core.decision import Conclude, Decision, Perform, Uncertain, Wait
from knowledgebeast_operator.core.facts import Facts, Unknown
from knowledgebeast_operator.core.guards import first_switch, is_dry_run
from knowledgebeast_operator.core.ledger import Attempt, Outcome
from knowledgebeast_operator.core.runbook import (
    Applicable,
    Detected,
    Effect,
    Limits,
    NotApplicable,
    NotDetected,
    Option,
    Pause,
    Undetermined,
    Verdict,
)
from knowledgebeast_operator.core.situation import Situation

CLAIM_GRACE: Final = timedelta(seconds=15)
"""For so long an attempt that another operator has claimed is left to it; then that operator is taken for dead."""

SETTLING: Final = "Settling"
VERIFYING: Final = "Verifying"


class TargetState(StrEnum):
    """Whether the object that an attempt names by uid is still there to be acted on."""

    PRESENT = "Present"
    GONE = "Gone"
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
    if attempt.acted is not None:
        return _judge(situation, option, attempt)
    match target_state(situation.facts, attempt.action.target):
        case TargetState.GONE:
            # The operator died between sending and noting it. The start is the earliest moment that it can have been.
            return _judge(situation, option, attempt.model_copy(update={"acted": attempt.started}))
        case TargetState.UNKNOWN:
            return _await_facts(situation, attempt)
        case TargetState.PRESENT:
            return _send_or_withdraw(situation, option, attempt)


def target_state(facts: Facts, target: Target) -> TargetState:
    """Looks for the pod by uid. One that is being deleted counts as gone: the action has reached it."""
    if isinstance(facts.chroma_pods, Unknown) or isinstance(facts.service_pods, Unknown):
        return TargetState.UNKNOWN
    pods = (*facts.chroma_pods.value, *facts.service_pods.value)
    is_present = any(pod.uid == target.uid and not pod.is_terminating for pod in pods)
    return TargetState.PRESENT if is_present else TargetState.GONE


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
    if situation.now >= deadline(attempt, situation.limits):
        return _withdraw(situation, attempt, "It was not carried out in time; it is decided anew.")
    match situation.diagnosis:
        case NotDetected(message=message):
            return _withdraw(situation, attempt, f"The signal cleared by itself. {message}")
        case Undetermined(unknown=unknown):
            return Uncertain(" ".join(fact.message for fact in unknown))
        case Detected() as detected:
            return _send(situation, option, attempt, detected)


def _send(situation: Situation, option: Option, attempt: Attempt, detected: Detected) -> Decision:
    match option.consider(situation.facts, detected, situation.journal, situation.limits):
        case Pause(reason=reason, message=message, wait=wait):
            return Wait(reason, message, until=situation.now + wait)
        case NotApplicable(message=message):
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
    return _conclude(situation, attempt, outcome, verdict.message)


def _outcome(verdict: Verdict, *, is_over: bool) -> Outcome | None:
    """Better and worse are final; the rest has until the deadline. Unknown is never counted as success."""
    match verdict.effect:
        case Effect.BETTER:
            return Outcome.SUCCESSFUL
        case Effect.WORSE:
            return Outcome.FAILED
        case Effect.UNKNOWN:
            return Outcome.INCONCLUSIVE if is_over else None
        case Effect.PENDING | Effect.NO_CHANGE:
            return Outcome.FAILED if is_over else None


def _withdraw(situation: Situation, attempt: Attempt, why: str) -> Conclude:
    """Nothing was sent, which is known: no success to claim, and nothing inconclusive to call a human for."""
    return _conclude(situation, attempt, Outcome.BLOCKED, f"Not carried out. {why}")


def _conclude(situation: Situation, attempt: Attempt, outcome: Outcome, message: str) -> Conclude:
    after = situation.runbook.slis(situation.facts)
    update = {"finished": situation.now, "outcome": outcome, "message": message, "after": after}
    return Conclude(attempt.model_copy(update=update))
