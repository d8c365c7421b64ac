"""Incidents that people make: one option, asked for by name, tried once.

What a person asks for is not compared with signals, but with what can be done; the switches, the approval and "one
action at a time" hold for it as for everything else.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Final

from knowledgebeast_operator.core.approvals import Approval
from knowledgebeast_operator.core.attempts import follow
from knowledgebeast_operator.core.decide import propose
from knowledgebeast_operator.core.decision import Decision, Resolve, Wait
from knowledgebeast_operator.core.facts import Facts
from knowledgebeast_operator.core.guards import Proposal, is_target_busy
from knowledgebeast_operator.core.ledger import IncidentRecord, Journal
from knowledgebeast_operator.core.policy import Policy
from knowledgebeast_operator.core.runbook import (
    Applicable,
    Consideration,
    Detected,
    Limits,
    NotApplicable,
    NothingToDo,
    Option,
    Runbook,
)
from knowledgebeast_operator.core.situation import Situation, assess

ASKED_FOR: Final = "AskedFor"


def assess_manual(
    facts: Facts,
    runbooks: Iterable[Runbook],
    policy: Policy,
    *,
    incident: IncidentRecord,
    journal: Journal,
    operator: str,
    approvals: tuple[Approval, ...] = (),
) -> Situation | Resolve:
    """The situation of an incident that a person made; a Resolve when there is nothing that could be done."""
    runbook = next((runbook for runbook in runbooks if runbook.name == incident.runbook), None)
    if runbook is None:
        return Resolve(f"Nothing was done: there is no runbook {incident.runbook}.")
    option = runbook.option(incident.option or "")
    if option is None or option.by_hand is None:
        can = ", ".join(f"{item.code} {item.name}" for item in runbook.options if item.by_hand is not None) or "none"
        return Resolve(f"Nothing was done: {incident.option} of {runbook.name} cannot be asked for; these can: {can}.")
    return assess(
        facts,
        replace(runbook, options=(_bound(option, incident),), diagnose=_asked_for, explained_by=()),
        policy,
        incident=incident,
        journal=journal,
        operator=operator,
        approvals=approvals,
    )


def decide_manual(situation: Situation, incident: IncidentRecord) -> Decision:
    """One attempt, brought to its end; then the incident is over, whatever came of it."""
    if incident.attempt_in_flight is not None:
        return follow(situation, incident.attempt_in_flight)
    if incident.attempts:
        last = incident.attempts[-1]
        return Resolve(f"{last.option} ({last.id}) ended: {last.outcome}. {last.message}")
    detected = situation.diagnosis
    (option,) = situation.runbook.options
    if not isinstance(detected, Detected):
        raise TypeError("an incident that was asked for is always Detected")
    match option.consider(situation.facts, detected, situation.journal, situation.limits):
        case Applicable(action=action, needs_approval=reason, inverse=inverse):
            proposal = Proposal(situation, incident, option, action, reason, inverse)
            return propose(proposal, guards=(is_target_busy,))
        case NotApplicable(message=message) | NothingToDo(message=message):
            return Resolve(f"Nothing was done. {message}")
        case pause:
            return Wait(pause.reason, pause.message, until=situation.now + pause.wait)


def _bound(option: Option, incident: IncidentRecord) -> Option:
    """The option as this incident asks for it."""
    by_hand = option.by_hand

    def consider(facts: Facts, detected: Detected, journal: Journal, limits: Limits) -> Consideration:
        if by_hand is None:
            return NotApplicable("NotByHand", f"{option.name} cannot be asked for.")
        return by_hand(facts, incident.parameters)

    return replace(option, consider=consider)


def _asked_for(_facts: Facts, _limits: Limits) -> Detected:
    return Detected(ASKED_FOR, "A person asked for it.", timedelta(0))
