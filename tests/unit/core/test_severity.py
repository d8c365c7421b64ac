"""When an incident is more severe than its runbook begins with. The runbook is incident 2's, made P1 or P2."""

from dataclasses import replace

import pytest

from answer_facts import answers, served
from kb_facts import NOW, attempt, facts, incident, minutes, pod, policy, situation
from knowledgebeast_operator.core.decide import decide
from knowledgebeast_operator.core.decision import Begin, Open, Resolve, Wait, Worsen
from knowledgebeast_operator.core.facts import Facts, Known, OwnWork, Row
from knowledgebeast_operator.core.ledger import IncidentRecord, Severity
from knowledgebeast_operator.core.transition import opened, transition
from knowledgebeast_operator.custom_resource import Spec
from knowledgebeast_operator.runbooks import api_error_rate_spike, disk_space_critical
from knowledgebeast_operator.runbooks.chroma_unreachable import RUNBOOK

P0, P1, P2, _ = Severity
HIGH = replace(RUNBOOK, severity=P1)
DOWN = facts(chroma_up=False)
ROLLOUT = OwnWork("Rollout", "service", "Deployment demo is being rolled out", NOW - minutes(1))
WINDOW = policy(maintenanceWindows=[{"days": ["Sat"], "start": "02:00", "duration": "1h"}])


def pods(ready: int, asked: int, at: Facts = DOWN) -> Facts:
    listed = tuple(
        pod(f"demo-{letter}", f"uid-{letter}", is_ready=place < ready) for place, letter in enumerate("abcd"[:asked])
    )
    spec = Spec.model_validate({"service": {"replicas": asked}})
    return replace(at, service_pods=Known(listed, NOW), spec=spec)


ROWS: dict[str, tuple[Facts, IncidentRecord | None, Severity]] = {
    # the severity that the incident has, or would have; incidents are P1
    "as_its_runbook_begins": (DOWN, None, P1),
    "as_it_is_written": (DOWN, incident(severity=P2), P2),
    "never_falls": (DOWN, incident(severity=P0), P0),
    "half_of_the_pods_is_half": (pods(2, 4), incident(severity=P1), P1),
    "less_than_half_of_the_pods": (pods(1, 3), incident(severity=P1), P0),
    "from_its_beginning": (pods(1, 3), None, P0),
    "none_though_nobody_can_be_asked_what_is_wrong": (pods(0, 1), incident(severity=P1), P0),
    "pods_that_are_rolled_out": (replace(pods(1, 3), own_work=(ROLLOUT,)), incident(severity=P1), P1),
    "a_rollout_of_chroma_takes_no_service_pod": (
        replace(pods(1, 3), own_work=(replace(ROLLOUT, component="chroma"),)), incident(severity=P1), P0,
    ),
    "good_signals_raise_nothing": (pods(1, 3, facts()), incident(severity=P1), P1),
}  # fmt: skip


@pytest.mark.parametrize(("at", "record", "severity"), ROWS.values(), ids=ROWS.keys())
def test_how_severe_it_is(at: Facts, record: IncidentRecord | None, severity: Severity) -> None:
    seen = situation(at, runbook=HIGH, incident=record)
    assert seen.severity is severity
    assert isinstance(decide(seen), Worsen) == (record is not None and record.severity is not severity)


def test_it_begins_as_severe_as_it_is() -> None:
    decision = decide(situation(pods(1, 3), runbook=HIGH))
    assert isinstance(decision, Open)
    record = opened(HIGH, decision, name="demo-chroma-unreachable-0001", number=1, now=NOW)
    assert record.severity is P0
    assert "Only 1 of 3 service pods are ready." in record.timeline[0].message


def test_it_is_written_once_and_then_waits_for_no_window() -> None:
    record = incident(severity=P1)
    worse = decide(situation(pods(1, 3), runbook=HIGH, incident=record, policy=WINDOW))
    assert isinstance(worse, Worsen)
    after = transition(record, worse, NOW)
    assert after.severity is P0
    assert [line.reason for line in after.timeline] == ["IncidentWorsened"]
    assert transition(after, worse, NOW) == after
    assert isinstance(decide(situation(pods(1, 3), runbook=HIGH, incident=after, policy=WINDOW)), Begin)


def test_it_stays_so_when_the_pods_are_back() -> None:
    seen = situation(pods(2, 2), runbook=HIGH, incident=incident(severity=P0), policy=WINDOW)
    assert isinstance(decide(seen), Begin)


def test_one_that_has_not_risen_waits_for_the_window() -> None:
    decision = decide(situation(pods(2, 3), runbook=HIGH, incident=incident(severity=P1), policy=WINDOW))
    assert isinstance(decision, Wait)
    assert decision.reason == "OutsideMaintenanceWindow"


def test_what_an_attempt_in_flight_may_have_caused_raises_nothing() -> None:
    record = incident(attempt(acted=NOW - minutes(1)), severity=P1)
    assert not isinstance(decide(situation(pods(1, 3), runbook=HIGH, incident=record)), Worsen)


def test_a_closing_incident_is_not_raised() -> None:
    record = incident(severity=P1, opened_at=NOW - minutes(9))
    assert isinstance(decide(situation(pods(1, 3, facts()), runbook=HIGH, incident=record)), Resolve)


@pytest.mark.parametrize(("errors", "severity"), [(500, P1), (501, P0)])
def test_more_than_half_of_the_answers_are_errors(errors: int, severity: Severity) -> None:
    at = served(answers(1000 - errors, server=errors))
    seen = situation(at, runbook=api_error_rate_spike.RUNBOOK, incident=incident(severity=P1))
    assert seen.severity is severity


@pytest.mark.parametrize(("failed_writes", "severity"), [(0, P1), (1, P0)])
def test_writes_that_fail(failed_writes: int, severity: Severity) -> None:
    at = facts(rows_by_name={"database_full": Known((Row({"pod": "demo-a"}, failed_writes, NOW),), NOW)})
    runbook = replace(disk_space_critical.RUNBOOK, diagnose=RUNBOOK.diagnose)
    down = replace(at, breaker_state=DOWN.breaker_state, canary_success_ratio=DOWN.canary_success_ratio)
    assert situation(down, runbook=runbook, incident=incident(severity=P1)).severity is severity
