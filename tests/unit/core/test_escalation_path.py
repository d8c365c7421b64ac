"""Who is called and when. The situation is incident 2's: Chroma does not answer, and its image cannot be pulled."""

from datetime import timedelta
from typing import Final

import pytest

from kb_facts import NOW, attempt, chroma, facts, failed, incident, minutes, pod, policy, situation, unknown, waiting
from knowledgebeast_operator.core.decide import decide
from knowledgebeast_operator.core.decision import Begin, Decision, Escalate, Perform
from knowledgebeast_operator.core.escalation_path import STILL_OPEN, due
from knowledgebeast_operator.core.facts import Facts
from knowledgebeast_operator.core.ledger import Escalation, IncidentRecord, Level
from knowledgebeast_operator.core.policy import Policy
from knowledgebeast_operator.core.situation import Situation
from knowledgebeast_operator.core.transition import transition
from knowledgebeast_operator.custom_resource import EscalationClock

ON_CALL, LEAD, MANAGER, CTO = Level
DOWN = facts(chroma_up=False, chroma_pods=chroma(pod(is_ready=False)))
STUCK = facts(
    chroma_up=False, chroma_pods=chroma(pod(is_ready=False, container=waiting("ErrImagePull", "manifest unknown")))
)
UNKNOWN = facts(breaker_state=unknown())


def call(level: Level = ON_CALL, reason: str = "NoOptionApplicable") -> Escalation:
    return Escalation(level=level, at=NOW - minutes(1), reason=reason, message="It lasts.", next_step="Fix the image.")


def lasting(minutes_: float, *levels: Level, reason: str | None = "NoOptionApplicable") -> IncidentRecord:
    """An incident of so many minutes, at which these levels have been called."""
    return incident(
        detected_at=NOW - timedelta(minutes=minutes_),
        opened_at=NOW - timedelta(minutes=minutes_),
        escalation=call(reason=reason) if reason is not None else None,
        escalations=tuple(call(level) for level in levels),
    )


@pytest.mark.parametrize(
    ("minutes_", "level"),
    [(0, ON_CALL), (15, ON_CALL), (15.1, LEAD), (60, LEAD), (61, MANAGER), (240, MANAGER), (241, CTO), (6000, CTO)],
)
def test_the_clock_is_that_of_the_runbook(minutes_: float, level: Level) -> None:
    assert due(EscalationClock(), timedelta(minutes=minutes_)) is level


FAST: Final = policy(escalation={"teamLeadAfter": "1m", "engineeringManagerAfter": "2m", "ctoAfter": "3m"})
ROWS: dict[str, tuple[Situation, Level | None, str]] = {
    # who is called, and for what reason; None: nobody
    "on_call_at_once_when_there_is_a_reason": (
        situation(STUCK, incident=lasting(1, reason=None)), ON_CALL, "NoOptionApplicable",
    ),
    "nobody_else_before_their_time": (situation(STUCK, incident=lasting(15, ON_CALL)), None, ""),
    "the_team_lead_though_on_call_was_called": (situation(STUCK, incident=lasting(16, ON_CALL)), LEAD, STILL_OPEN),
    "the_team_lead_once": (situation(STUCK, incident=lasting(59, ON_CALL, LEAD)), None, ""),
    "the_manager": (situation(STUCK, incident=lasting(61, ON_CALL, LEAD)), MANAGER, STILL_OPEN),
    "the_cto": (situation(STUCK, incident=lasting(241, ON_CALL, LEAD, MANAGER)), CTO, STILL_OPEN),
    "nobody_is_above_the_cto": (situation(STUCK, incident=lasting(9000, *Level)), None, ""),
    "a_reason_that_comes_late_calls_whose_time_it_is": (
        situation(STUCK, incident=lasting(61, reason=None)), MANAGER, "DownTooLong",
    ),
    "after_hours_away_the_highest": (situation(STUCK, incident=lasting(300, ON_CALL)), CTO, STILL_OPEN),
    "exhausted_does_not_swallow_the_clock": (
        situation(DOWN, incident=lasting(16, ON_CALL, reason="AttemptsExhausted")), LEAD, STILL_OPEN,
    ),
    "a_signal_that_is_unknown_does_not_stop_the_clock": (
        situation(UNKNOWN, incident=lasting(16, ON_CALL)), LEAD, STILL_OPEN,
    ),
    "nor_does_a_pause": (
        situation(STUCK, incident=lasting(16, ON_CALL), policy=policy(pause_annotation="x")), LEAD, STILL_OPEN,
    ),
    "nor_an_attempt_in_flight": (
        situation(DOWN, incident=lasting(16, ON_CALL).model_copy(update={"attempts": (attempt(acted=NOW),)})),
        LEAD, STILL_OPEN,
    ),
    "nobody_is_called_while_it_is_good": (situation(facts(), incident=lasting(90, ON_CALL)), None, ""),
    "the_clock_is_a_field": (situation(STUCK, incident=lasting(2.5, ON_CALL, LEAD), policy=FAST), MANAGER, STILL_OPEN),
    "an_incident_of_an_earlier_version_has_called_somebody": (
        situation(STUCK, incident=lasting(10).model_copy(update={"escalations": ()})), None, "",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("at", "level", "reason"), ROWS.values(), ids=ROWS.keys())
def test_who_is_called(at: Situation, level: Level | None, reason: str) -> None:
    decision = decide(at)
    if level is None:
        assert not isinstance(decision, Escalate), decision
        return
    assert isinstance(decision, Escalate), decision
    assert (decision.escalation.level, decision.escalation.reason) == (level, reason)
    assert decision.escalation.next_step


def test_what_fits_is_begun_in_the_next_look() -> None:
    """Of an incident that lasts, and that a person need not yet be called for."""
    record = lasting(16, ON_CALL)
    call_first = decide(situation(DOWN, incident=record))
    record = transition(record, call_first, NOW)
    assert isinstance(decide(situation(DOWN, incident=record)), Begin)
    written = record.model_copy(update={"attempts": (attempt(),)})
    assert isinstance(decide(situation(DOWN, incident=written)), Perform)


def test_the_reason_is_kept_and_whoever_was_not_called_is_told_with_the_next() -> None:
    before = lasting(300, ON_CALL, reason="AttemptsExhausted")
    after = transition(before, decide(situation(DOWN, incident=before)), NOW)
    assert after.escalation == before.escalation
    assert [one.level for one in after.escalations] == list(Level)
    assert after.timeline[-1].reason == "IncidentEscalated"
    assert after.timeline[-1].message.endswith("Called: TeamLead, EngineeringManager, CTO.")
    assert after.escalations[-1].next_step == "Fix the image."


def test_a_call_by_the_clock_leaves_the_place_of_the_reason() -> None:
    before = incident()
    after = transition(before, Escalate(call(LEAD, STILL_OPEN)), NOW)
    assert after.escalation is None
    assert after.call is not None
    exhausted = transition(after, Escalate(call(LEAD, "AttemptsExhausted")), NOW)
    assert exhausted.escalation is not None
    assert exhausted.escalation.reason == "AttemptsExhausted"
    assert exhausted.escalations == after.escalations


def test_a_later_reason_is_heard_by_who_was_not_called() -> None:
    """Critical data loss goes to the CTO, though on-call was asked for an approval before."""
    before = incident(failed(), escalation=call(reason="AwaitingApproval"), escalations=(call(),))
    after = transition(before, Escalate(call(CTO, "RpoExceeded")), NOW)
    assert after.escalation == before.escalation
    assert {one.level: one.reason for one in after.escalations}[CTO] == "RpoExceeded"


@pytest.mark.parametrize("at", [STUCK, UNKNOWN, DOWN], ids=["stuck", "unknown", "down"])
def test_nothing_is_written_while_nothing_changes(at: Facts) -> None:
    """Whatever was due is called in two looks at most; then a look leaves the record as it is for an hour."""
    record = lasting(16, reason=None).model_copy(update={"attempts": (failed(1), failed(2), failed(3))})
    for _ in range(3):
        record = transition(record, decision_at(at, record), NOW)
    assert transition(record, decision_at(at, record), NOW) == record


def decision_at(at: Facts, record: IncidentRecord) -> Decision:
    return decide(situation(at, incident=record, policy=Policy()))
