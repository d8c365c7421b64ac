"""The incident's record after each decision; applied twice, each adds nothing."""

import pytest

from kb_facts import NOW, attempt, facts, failed, incident, minutes, seconds, situation
from knowledgebeast_operator.core.decide import decide
from knowledgebeast_operator.core.decision import (
    Begin,
    Blocked,
    Conclude,
    Decision,
    Escalate,
    Healthy,
    Open,
    Perform,
    Resolve,
    Uncertain,
    Wait,
)
from knowledgebeast_operator.core.ledger import Escalation, IncidentRecord, Outcome
from knowledgebeast_operator.core.transition import KEPT_FROM_THE_START, MAX_TIMELINE, opened, transition
from knowledgebeast_operator.runbooks.chroma_unreachable import RUNBOOK

ENDED = attempt(acted=NOW - minutes(1), finished=NOW, outcome=Outcome.SUCCESSFUL, message="Well again.")
DRY = attempt(finished=NOW, outcome=Outcome.DRY_RUN, message="Would have.")
CALL = Escalation(at=NOW, reason="DownTooLong", message="16 min.", next_step="Look.")

ROWS: dict[str, tuple[IncidentRecord, Decision, list[str]]] = {
    # before, decision, the lines that the timeline gets
    "nothing_is_wrong": (incident(), Healthy("Well."), []),
    "an_attempt_is_written_down": (incident(), Begin(attempt()), ["RemediationBegun"]),
    "an_attempt_that_is_known_is_not_written_again": (incident(attempt()), Begin(attempt()), []),
    "an_action_is_confirmed": (incident(attempt()), Perform(attempt()), ["RemediationCarriedOut"]),
    "an_action_that_was_confirmed": (incident(attempt(acted=NOW)), Perform(attempt()), []),
    "an_action_of_an_attempt_that_ended": (incident(failed()), Perform(attempt()), []),
    "an_attempt_ends": (incident(attempt()), Conclude(ENDED), ["RemediationSucceeded"]),
    "an_attempt_that_has_ended": (incident(failed()), Conclude(ENDED), []),
    "a_dry_run_without_a_beginning": (incident(), Conclude(DRY), ["RemediationDryRun"]),
    "a_human_is_called": (incident(), Escalate(CALL), ["IncidentEscalated"]),
    "a_human_was_called": (incident(escalation=CALL), Escalate(CALL), []),
    "it_closes": (incident(healthy_since=NOW), Resolve("Good for 2 min."), ["IncidentResolved"]),
    "it_was_closed": (incident(resolved_at=NOW), Resolve("Good for 2 min."), []),
    "a_limit_forbids_it": (incident(), Blocked("Paused", "Moving."), ["Paused"]),
    "a_guard_waits": (incident(), Wait("CoolingDown", "3 min."), ["CoolingDown"]),
    "settling_is_said_by_the_attempt": (incident(), Wait("Settling", "15 s."), []),
    "verifying_is_said_by_the_attempt": (incident(), Wait("Verifying", "300 s."), []),
    "a_signal_is_unknown": (incident(), Uncertain("No Prometheus."), ["SignalsUnknown"]),
}


@pytest.mark.parametrize(("before", "decision", "added"), ROWS.values(), ids=ROWS.keys())
def test_transition(before: IncidentRecord, decision: Decision, added: list[str]) -> None:
    after = transition(before, decision, NOW)
    assert [entry.reason for entry in after.timeline[len(before.timeline) :]] == added
    assert transition(after, decision, NOW + seconds(5)) == after
    assert IncidentRecord.model_validate_json(after.model_dump_json(by_alias=True)) == after


def test_an_incident_begins_with_its_evidence() -> None:
    decision = decide(situation(facts(chroma_up=False)))
    assert isinstance(decision, Open)
    record = opened(RUNBOOK, decision, name="demo-chroma-unreachable-0007", number=7, now=NOW)
    assert (record.runbook, record.number, record.severity) == ("ChromaUnreachable", 7, RUNBOOK.severity)
    assert record.evidence == decision.evidence
    assert (record.opened_at, record.detected_at) == (NOW, NOW - minutes(1))
    assert [entry.reason for entry in record.timeline] == ["IncidentDetected"]


def test_the_confirmation_carries_its_time() -> None:
    after = transition(incident(attempt()), Perform(attempt()), NOW)
    assert after.attempts[0].acted == NOW
    assert after.attempt_in_flight == after.attempts[0]


@pytest.mark.parametrize(
    "decision", [Uncertain("?"), Blocked("Paused", "x"), Begin(attempt()), Wait("CoolingDown", "x")]
)
def test_the_healthy_period_ends_with_anything_but_good_signals(decision: Decision) -> None:
    assert transition(incident(healthy_since=NOW), decision, NOW).healthy_since is None


def test_the_healthy_period_is_written_down() -> None:
    since = NOW - seconds(20)
    assert transition(incident(), Wait("HealthyPeriod", "x", NOW, since), NOW).healthy_since == since


def test_a_timeline_keeps_its_beginning_and_its_end() -> None:
    record = incident()
    for number in range(200):
        record = transition(record, Blocked(f"Reason{number}", "x"), NOW + seconds(number))
    reasons = [entry.reason for entry in record.timeline]
    assert len(reasons) == MAX_TIMELINE
    assert reasons[:KEPT_FROM_THE_START] == [f"Reason{n}" for n in range(KEPT_FROM_THE_START)]
    assert reasons[-1] == "Reason199"


def test_numbers_that_change_every_tick_are_told_once() -> None:
    record = incident()
    for number in range(10):
        record = transition(record, Blocked("Paused", f"for {number} s"), NOW + seconds(number))
    assert len(record.timeline) == 1


def test_messages_fit_the_schema() -> None:
    long = attempt(finished=NOW, outcome=Outcome.FAILED, message="x" * 5000)
    after = transition(incident(), Conclude(long), NOW)
    assert len(after.attempts[0].message) <= 1024
    assert all(len(entry.message) <= 1024 for entry in after.timeline)
