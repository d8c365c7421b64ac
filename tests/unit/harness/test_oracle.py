"""The oracle of fault scenarios: it has to see what is wrong."""

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from harness.kinds import Attempt, Incident
from harness.oracle import closed_at, has_ended, judge, mitigated_at, wrong_actions
from harness.scenario import End, Scenario

BEGAN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
RUNBOOK = "ChromaUnreachable"


def scenario(end: End = End.RESOLVED, **fields: object) -> Scenario:
    given = {"runbook": RUNBOOK, "right": (("RestartChroma", "Successful"),), **fields}
    return Scenario("a fault", lambda _library: contextlib.nullcontext(), end, **given)  # pyright: ignore[reportArgumentType]


def attempt(
    option: str = "RestartChroma",
    outcome: str | None = "Successful",
    *,
    action: str = "RestartPod",
    minute: int = 1,
    has_acted: bool = True,
) -> dict[str, object]:
    at = BEGAN + timedelta(minutes=minute)
    return {
        **{"id": option.lower(), "option": option, "action": {"type": action}, "started": at},
        **({"acted": at} if has_acted else {}),
        **({} if outcome is None else {"finished": at, "outcome": outcome}),
    }


def incident(
    *attempts: dict[str, object],
    runbook: str = RUNBOOK,
    resolved: int | None = None,
    escalation: str = "",
    told: Sequence[str] = (),
    caused_by: str = "",
) -> Incident:
    """`resolved`: minutes after the beginning."""
    closed = None if resolved is None else BEGAN + timedelta(minutes=resolved)
    return Incident.model_validate(
        {
            "metadata": {"name": f"demo-{runbook.lower()}-0001", "uid": runbook, "creationTimestamp": BEGAN},
            "spec": {"knowledgeBeastRef": {"name": "demo"}, "runbook": runbook, "trigger": "Automatic"},
            "status": {
                "openedAt": BEGAN,
                "attempts": attempts,
                "timeline": [{"at": BEGAN, "reason": reason, "message": "…"} for reason in told],
                **({} if closed is None else {"resolvedAt": closed}),
                **({"escalation": {"reason": escalation}} if escalation else {}),
                **({"causedBy": caused_by} if caused_by else {}),
            },
        }
    )


def attempts_of(*incidents: Incident) -> list[Attempt]:
    return [one for item in incidents for one in item.status.attempts]


def judged(wanted: Scenario, *incidents: Incident, failed: int = 0) -> list[str]:
    return list(judge(wanted, incidents, attempts_of(*incidents), failed))


def test_what_went_as_it_should_has_no_problem() -> None:
    found = incident(attempt(), resolved=2)
    assert has_ended(scenario(), [found])
    assert judged(scenario(), found) == []
    assert list(wrong_actions(scenario(), attempts_of(found))) == []


@pytest.mark.parametrize(
    "incidents",
    [
        (),
        (incident(attempt("RebuildCollection"), resolved=2),),
        (incident(attempt(outcome="Undone"), resolved=2),),
        (incident(attempt(), attempt(minute=2), resolved=3),),
        (incident(attempt(), resolved=2), incident(runbook="HighQueryLatency", resolved=2)),
        (incident(attempt(), resolved=2), incident(resolved=3)),
    ],
    ids=["no incident", "another option", "undone", "twice", "another incident", "a second incident"],
)
def test_what_differs_is_said(incidents: tuple[Incident, ...]) -> None:
    assert judged(scenario(), *incidents)


def test_failed_searches_count_beyond_what_may_fail() -> None:
    found = incident(attempt(), resolved=2)
    assert judged(scenario(may_fail=3), found, failed=3) == []
    assert judged(scenario(may_fail=3), found, failed=4) == ["4 searches failed, at most 3 may"]


def test_a_quiet_scenario_has_no_incident_at_all() -> None:
    quiet = scenario(End.QUIET, runbook="", right=())
    assert judged(quiet) == []
    assert judged(quiet, incident())


def test_of_two_faults_each_has_its_incident_and_its_option_in_any_order() -> None:
    both = scenario(also=("EmbeddingModelFailure",), right=(("RestartChroma", "Successful"), ("UseCpu", "Successful")))
    first = incident(attempt("UseCpu", minute=3), runbook="EmbeddingModelFailure", resolved=5)
    second = incident(attempt(), resolved=2)
    assert judged(both, first, second) == []
    assert closed_at(both, [first, second]) == BEGAN + timedelta(minutes=5)
    assert mitigated_at(attempts_of(first, second)) == BEGAN + timedelta(minutes=3)
    assert has_ended(both, [first, second])
    assert not has_ended(both, [second])
    assert judged(both, second)


def test_an_incident_of_a_symptom_may_open_and_must_close() -> None:
    wanted = scenario(symptoms=("HighQueryLatency",))
    cured, symptom = incident(attempt(), resolved=2), incident(runbook="HighQueryLatency")
    assert judged(wanted, cured, symptom) == []
    assert not has_ended(wanted, [cured, symptom])


def test_a_symptom_names_its_cause_and_nothing_is_done_about_it() -> None:
    wanted = scenario(also=("HighQueryLatency",), caused_by={"HighQueryLatency": RUNBOOK})
    cause = incident(attempt(), resolved=2)
    explained = incident(runbook="HighQueryLatency", resolved=3, caused_by=cause.name)
    assert judged(wanted, cause, explained) == []

    unexplained = incident(runbook="HighQueryLatency", resolved=3)
    itself = incident(runbook="HighQueryLatency", resolved=3, caused_by=explained.name)
    assert judged(wanted, cause, unexplained)
    assert judged(wanted, cause, itself)

    acted_on = incident(attempt(), runbook="HighQueryLatency", resolved=3, caused_by=cause.name)
    assert judged(wanted, incident(resolved=2), acted_on) == [
        f"{acted_on.name} has attempts, and only its cause should"
    ]


def test_a_call_ends_it_for_its_reason_and_when_nothing_is_under_way() -> None:
    called = scenario(End.ESCALATED, reason="NoMorePods")
    assert not has_ended(called, [incident()])
    assert not has_ended(called, [incident(escalation="MadeWorse")])
    assert not has_ended(called, [incident(attempt(outcome=None), escalation="NoMorePods")])
    assert has_ended(called, [incident(attempt(), escalation="NoMorePods")])
    assert has_ended(called, [incident(attempt(outcome=None, has_acted=False), escalation="NoMorePods")])


def test_what_has_to_be_told_is_waited_for() -> None:
    alone = scenario(End.LEFT_ALONE, right=(), reason="QueriesDiverse")
    assert not has_ended(alone, [incident(told=["IncidentDetected"])])
    assert has_ended(alone, [incident(told=["IncidentDetected", "QueriesDiverse"])])
    assert not has_ended(scenario(told="HealthyPeriod"), [incident(attempt(), resolved=2)])


def test_a_wrong_action_is_one_that_was_carried_out() -> None:
    found = incident(
        attempt("Withdrawn", has_acted=False), attempt("Refused", outcome="Blocked"), attempt("Wrong", outcome="Failed")
    )
    assert list(wrong_actions(scenario(), attempts_of(found))) == ["Wrong"]
