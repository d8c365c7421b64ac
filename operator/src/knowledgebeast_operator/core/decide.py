"""What to do about one runbook now. Total and level-based: the same situation always gives the same answer.

No incident: is it bad, for long enough, and not explained by our own work? Then one opens.
An incident: good again for the healthy period, it closes; unknown, nothing is done; bad, an option is tried or a human
is called. An attempt in flight is brought to its end before anything else (`attempts`).
"""

from datetime import datetime, timedelta
from typing import Final

from knowledgebeast_operator.core.approvals import ask
from knowledgebeast_operator.core.attempts import follow
from knowledgebeast_operator.core.decision import (
    Begin,
    Blocked,
    Conclude,
    Decision,
    Escalate,
    Healthy,
    Open,
    Resolve,
    Uncertain,
    Wait,
    Worsen,
)
from knowledgebeast_operator.core.escalation_path import on_time
from knowledgebeast_operator.core.guards import (
    ATTEMPTS_EXHAUSTED,
    CHAIN,
    RESTART_LOOP,
    Guard,
    Proposal,
    first_objection,
    is_dry_run,
    own_work_in_progress,
)
from knowledgebeast_operator.core.ledger import Attempt, Escalation, IncidentRecord, Outcome
from knowledgebeast_operator.core.runbook import (
    Applicable,
    Detected,
    NotApplicable,
    NotDetected,
    NothingToDo,
    Option,
    Pause,
    Undetermined,
)
from knowledgebeast_operator.core.series import STALE_SCRAPES
from knowledgebeast_operator.core.situation import CAUSE_EXPLAINS_FOR, Situation
from knowledgebeast_operator.custom_resource import format_duration, names

INCONCLUSIVE: Final = "Inconclusive"
NO_OPTION: Final = "NoOptionApplicable"

HANDED_OVER: Final = frozenset({ATTEMPTS_EXHAUSTED, RESTART_LOOP, INCONCLUSIVE})
"""After these escalations the incident is the human's. One by the clock leaves the remaining attempts; what has made
things worse is guarded by itself until the object is resumed."""


def decide(situation: Situation) -> Decision:
    """The one next step for this runbook; a call that is due comes before it."""
    incident = situation.incident
    if incident is None:
        return _watch(situation)
    has_risen = situation.severity is not incident.severity
    # Before anything else, for it decides what may wait; but an attempt in flight may be what it comes from.
    if situation.why_grave is not None and has_risen and incident.attempt_in_flight is None:
        return Worsen(situation.severity, situation.why_grave)
    return on_time(situation, incident, _handle(situation, incident))


def _handle(situation: Situation, incident: IncidentRecord) -> Decision:
    if incident.attempt_in_flight is not None:
        return follow(situation, incident.attempt_in_flight)
    match situation.diagnosis:
        case NotDetected() as good:
            return _tell_harm(situation, incident) or _heal(situation, incident, good)
        case Undetermined() as undetermined:
            return _call_human(situation, incident) or _uncertain(undetermined)
        case Detected() as detected:
            return _call_human(situation, incident) or _remedy(situation, incident, detected)


def _watch(situation: Situation) -> Decision:
    match situation.diagnosis:
        case NotDetected(message=message):
            return Healthy(message)
        case Undetermined() as undetermined:
            return _uncertain(undetermined)
        case Detected() as detected:
            return _open(situation, detected)


def _open(situation: Situation, detected: Detected) -> Decision:
    missing = situation.limits.hold - detected.held
    if missing > timedelta(0) and not detected.is_event:
        message = (
            f"{detected.message} It opens an incident when it has lasted {format_duration(situation.limits.hold)}."
        )
        return Wait("Holding", message, until=situation.now + missing)
    work = own_work_in_progress(situation)
    if work is not None and not detected.outlasts_own_work:
        return Wait("OwnWork", f"{work.kind} in progress explains it: {work.message}. {detected.message}")
    cause = situation.cause.name if situation.cause is not None else None
    message = " ".join(filter(None, (detected.message, situation.why_grave)))
    since = situation.now - detected.held
    return Open(detected.reason, message, since, detected.evidence, situation.severity, cause)


def _heal(situation: Situation, incident: IncidentRecord, good: NotDetected) -> Decision:
    """Good since: what was written down, unless the samples show that it was bad in between."""
    seen = situation.now - good.held
    reaches_back = situation.limits.window - STALE_SCRAPES * situation.facts.scrape_interval
    written = incident.healthy_since
    since = seen if written is None else max(written, seen) if good.held < reaches_back else min(written, seen)
    since = max(since, _last_known_bad(incident))
    until = since + situation.limits.healthy_period
    if situation.now >= until:
        return Resolve(f"{good.message} So it has been for {format_duration(situation.now - since)}.")
    return Wait("HealthyPeriod", f"{good.message} The incident closes at {until:%H:%M:%S %Z}.", until, since)


def _last_known_bad(incident: IncidentRecord) -> datetime:
    """When it was opened, or last acted on. A pod that is gone took its bad samples along; those left were good all the
    time.
    """
    return max((incident.opened_at, *(one.acted for one in incident.attempts if one.acted is not None)))


def _tell_harm(situation: Situation, incident: IncidentRecord) -> Escalate | None:
    if situation.runbook.harmed is None:
        return None
    return _news(incident, situation.runbook.harmed(situation.facts, incident, situation.limits))


def _call_human(situation: Situation, incident: IncidentRecord) -> Escalate | None:
    last = incident.attempts[-1] if incident.attempts else None
    if last is not None and last.outcome is Outcome.INCONCLUSIVE and incident.escalation is None:
        return Escalate(
            Escalation(
                at=situation.now,
                reason=INCONCLUSIVE,
                message=f"Whether {last.option} ({last.id}) helped is unknown: {last.message}",
                next_step="Look whether it works, and bring back the signals that condition SignalsAvailable names; "
                "the operator does nothing more about this incident.",
            )
        )
    return _news(incident, situation.runbook.escalate(situation.facts, incident, situation.limits))


def _news(incident: IncidentRecord, escalation: Escalation | None) -> Escalate | None:
    """A call is made once per incident, whatever the reason, and once more for who has not been called."""
    if escalation is None or (incident.escalation is not None and escalation.level in incident.called):
        return None
    return Escalate(escalation)


def _remedy(situation: Situation, incident: IncidentRecord, detected: Detected) -> Decision:
    if incident.escalation is not None and incident.escalation.reason in HANDED_OVER:
        return Blocked("HandedOver", f"A human was called ({incident.escalation.reason}). {detected.message}")
    cause = situation.cause
    if cause is not None:
        message = f"{cause.name} ({cause.runbook}) explains it. {detected.message}"
        return Wait("ExplainedByCause", message, until=cause.opened_at + CAUSE_EXPLAINS_FOR)
    refusals: list[tuple[Option, NotApplicable | NothingToDo]] = []
    for option in _least_tried_first(situation, incident):
        match option.consider(situation.facts, detected, situation.journal, situation.limits):
            case Pause(reason=reason, message=message, wait=wait):
                return Wait(reason, message, until=situation.now + wait)
            case Applicable() as fits:
                return propose(_proposal(situation, incident, option, fits, refusals))
            case NotApplicable() | NothingToDo() as refusal if option.is_remedy:
                refusals.append((option, refusal))
            case NotApplicable() | NothingToDo():
                pass  # what a look would show is known already
    refusals.sort(key=lambda passed: situation.runbook.options.index(passed[0]))
    return _no_option(situation, incident, detected, [refusal for _, refusal in refusals])


def _proposal(
    situation: Situation,
    incident: IncidentRecord,
    option: Option,
    fits: Applicable,
    refusals: list[tuple[Option, NotApplicable | NothingToDo]],
) -> Proposal:
    passed_over = tuple((f"{passed.code} {passed.name}", refusal.message) for passed, refusal in refusals)
    return Proposal(situation, incident, option, fits.action, fits.needs_approval, fits.inverse, passed_over)


def _least_tried_first(situation: Situation, incident: IncidentRecord) -> list[Option]:
    """The next option after one that did not help; the runbook's order where they are even. Looking comes first."""
    tried = [attempt.option for attempt in incident.attempts if attempt.outcome is not Outcome.DRY_RUN]
    return sorted(situation.runbook.options, key=lambda option: option.is_remedy and 1 + tried.count(option.name))


def propose(proposal: Proposal, guards: tuple[Guard, ...] = CHAIN) -> Decision:
    """What fits is begun, unless a switch is off or a guard objects."""
    objection = first_objection(proposal, guards)
    if isinstance(objection, Escalate) and proposal.incident.escalation is not None:
        return Blocked(objection.escalation.reason, objection.escalation.message)
    if objection is not None:
        return objection
    if is_dry_run(proposal.situation):
        return _dry_run(proposal)
    return Begin(_new_attempt(proposal), proposal.passed_over)


def _dry_run(proposal: Proposal) -> Decision:
    """Written down once per option and target, not every tick."""
    for attempt in proposal.incident.attempts:
        if attempt.outcome is Outcome.DRY_RUN and attempt.action == proposal.action:
            return Blocked("DryRun", f"The mode is DryRun. Would have: {proposal.action.describe()}.")
    update = {
        "finished": proposal.situation.now,
        "outcome": Outcome.DRY_RUN,
        "message": f"Would have: {proposal.action.describe()}.",
    }
    return Conclude(_new_attempt(proposal).model_copy(update=update))


def _new_attempt(proposal: Proposal) -> Attempt:
    situation, incident = proposal.situation, proposal.incident
    last = incident.attempts[-1].id.rsplit("-", 1)[-1] if incident.attempts else "0"
    attempt_id, reason = names.attempt_id(incident.name, int(last) + 1), proposal.needs_approval
    return Attempt(
        id=attempt_id,
        option=proposal.option.name,
        action=proposal.action,
        inverse=proposal.inverse,
        claimed_by=situation.operator,
        started=situation.now,
        approval=ask(reason, attempt_id, proposal.action, incident.evidence) if reason is not None else None,
        before=situation.runbook.slis(situation.facts),
    )


def _no_option(
    situation: Situation,
    incident: IncidentRecord,
    detected: Detected,
    refusals: list[NotApplicable | NothingToDo],
) -> Decision:
    """A human is called, unless an option says that doing nothing is right."""
    idle = next((refusal for refusal in refusals if isinstance(refusal, NothingToDo)), None)
    if idle is not None:
        return Blocked(idle.reason, idle.message, is_right=True)
    helps = " ".join(dict.fromkeys(refusal.message for refusal in refusals))
    if incident.escalation is not None:
        return Blocked(NO_OPTION, f"{detected.message} {helps}")
    return Escalate(
        Escalation(at=situation.now, reason=NO_OPTION, message=f"No option helps. {detected.message}", next_step=helps)
    )


def _uncertain(undetermined: Undetermined) -> Uncertain:
    return Uncertain(" ".join(fact.message for fact in undetermined.unknown))
