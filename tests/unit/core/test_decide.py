"""`decide` for one runbook, as tables of sentences. The situation is incident 2's: Chroma does not answer."""

from dataclasses import replace
from datetime import timedelta

import pytest

from kb_facts import (
    A_MINUTE,
    NOW,
    attempt,
    changing,
    chroma,
    facts,
    failed,
    incident,
    minutes,
    per_pod,
    pod,
    policy,
    restart,
    seconds,
    series,
    situation,
    unknown,
    waiting,
    worse,
)
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
from knowledgebeast_operator.core.facts import Facts, Known, OwnWork
from knowledgebeast_operator.core.ledger import Escalation, IncidentRecord, Journal, Level, Outcome, Severity
from knowledgebeast_operator.core.policy import Policy
from knowledgebeast_operator.core.situation import Situation

DOWN = facts(chroma_up=False, chroma_pods=chroma(pod(is_ready=False)))
UNKNOWN = facts(breaker_state=unknown())
NO_IMAGE = facts(
    chroma_up=False, chroma_pods=chroma(pod(is_ready=False, container=waiting("ErrImagePull", "manifest unknown")))
)
RESTARTED = chroma(pod(uid="uid-chroma-2"))
ROLLOUT = OwnWork("Rollout", "chroma", "StatefulSet demo-chroma is being rolled out", NOW - A_MINUTE)


CAUSE = incident(name="demo-database-corruption-0001", runbook="DatabaseCorruption")


def escalated(reason: str, level: Level = Level.ON_CALL) -> Escalation:
    return Escalation(level=level, at=NOW - A_MINUTE, reason=reason, message="It did not help.", next_step="Look.")


def runbook_policy(item: dict[str, object]) -> Policy:
    return policy(runbooks=[{"name": "ChromaUnreachable"} | item])


def reason_of(decision: Decision) -> str:
    match decision:
        case Open(reason=reason) | Wait(reason=reason) | Blocked(reason=reason):
            return reason
        case Escalate(escalation=escalation):
            return escalation.reason
        case Conclude(attempt=ended):
            return str(ended.outcome)
        case _:
            return ""


Row = tuple[Situation, type, str]


def check(row: Row) -> Decision:
    at, kind, reason = row
    decision = decide(at)
    assert isinstance(decision, kind), decision
    assert reason_of(decision) == reason
    return decision


WATCHING: dict[str, Row] = {
    "well": (situation(), Healthy, ""),
    "unknown_is_not_down": (situation(UNKNOWN), Uncertain, ""),
    "bad_but_not_for_long_enough": (situation(facts(chroma_up=False, down_for=seconds(20))), Wait, "Holding"),
    "bad_for_exactly_the_hold": (situation(facts(chroma_up=False, down_for=seconds(30))), Open, "ChromaAnswersErrors"),
    "our_own_rollout_explains_it": (situation(replace(DOWN, own_work=(ROLLOUT,))), Wait, "OwnWork"),
    "a_rollout_of_the_service_does_not_explain_it": (
        situation(replace(DOWN, own_work=(replace(ROLLOUT, component="service"),))), Open, "ChromaHung",
    ),
    "a_rollout_does_not_explain_an_image_that_cannot_be_pulled": (
        situation(replace(NO_IMAGE, own_work=(ROLLOUT,))), Open, "ImageUnavailable",
    ),
    "a_rollout_that_does_not_end_explains_nothing": (
        situation(replace(DOWN, own_work=(replace(ROLLOUT, since=NOW - minutes(15)),))), Open, "ChromaHung",
    ),
    "an_incident_opens_while_paused": (situation(DOWN, policy=policy(pause_annotation="work")), Open, "ChromaHung"),
    "an_incident_opens_while_disabled": (situation(DOWN, policy=policy(mode="Disabled")), Open, "ChromaHung"),
    "a_closed_incident_is_none": (
        situation(DOWN, incident=incident(resolved_at=NOW - A_MINUTE)), Open, "ChromaHung",
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", WATCHING.values(), ids=WATCHING.keys())
def test_without_an_incident(row: Row) -> None:
    check(row)


def test_an_incident_says_since_when_it_was_bad_and_what_was_measured() -> None:
    decision = decide(situation(DOWN))
    assert isinstance(decision, Open)
    assert decision.detected_at == NOW - A_MINUTE
    assert [evidence.signal for evidence in decision.evidence] == ["kb_chroma_breaker_state", "kb_canary_success_ratio"]


def test_an_incident_that_another_explains_names_it() -> None:
    decision = decide(situation(DOWN, others=(CAUSE,)))
    assert isinstance(decision, Open)
    assert decision.caused_by == CAUSE.name


def test_a_hold_says_when_it_ends() -> None:
    decision = decide(situation(facts(chroma_up=False, down_for=seconds(20))))
    assert isinstance(decision, Wait)
    assert decision.until == NOW + seconds(10)


RECENT = failed(1, ago=minutes(5))
REMEDY: dict[str, Row] = {
    "a_restart_is_written_down_first": (situation(DOWN, incident=incident()), Begin, ""),
    "nothing_is_done_on_unknown_signals": (situation(UNKNOWN, incident=incident()), Uncertain, ""),
    "the_kill_switch_wins": (
        situation(DOWN, incident=incident(), policy=policy(mode="Disabled", pause_annotation="x")), Blocked, "Disabled",
    ),
    "paused_by_annotation": (
        situation(DOWN, incident=incident(), policy=policy(pause_annotation="migration")), Blocked, "Paused",
    ),
    "paused_until_later": (
        situation(DOWN, incident=incident(), policy=policy(pauses=[{"reason": "x", "until": "2026-01-07T12:00:01Z"}])),
        Blocked, "Paused",
    ),
    "a_pause_that_is_over": (
        situation(DOWN, incident=incident(), policy=policy(pauses=[{"reason": "x", "until": "2026-01-07T12:00:00Z"}])),
        Begin, "",
    ),
    "runbook_disabled": (
        situation(DOWN, incident=incident(), policy=runbook_policy({"mode": "Disabled"})),
        Blocked, "RunbookDisabled",
    ),
    "another_runbook_disabled": (
        situation(DOWN, incident=incident(), policy=policy(runbooks=[{"name": "Other", "mode": "Disabled"}])),
        Begin, "",
    ),
    "a_hold_below_three_scrapes": (
        situation(DOWN, incident=incident(), policy=runbook_policy({"for": "29s"})),
        Blocked, "InvalidPolicy",
    ),
    "a_dry_run_is_recorded": (situation(DOWN, incident=incident(), policy=policy(mode="DryRun")), Conclude, "DryRun"),
    "a_dry_run_of_this_runbook": (
        situation(DOWN, incident=incident(), policy=runbook_policy({"mode": "DryRun"})),
        Conclude, "DryRun",
    ),
    "a_dry_run_is_not_repeated": (
        situation(
            DOWN, incident=incident(attempt(outcome=Outcome.DRY_RUN, finished=NOW)), policy=policy(mode="DryRun")
        ), Blocked, "DryRun",
    ),
    "after_a_dry_run_enforce_acts": (
        situation(DOWN, incident=incident(attempt(outcome=Outcome.DRY_RUN, finished=NOW))), Begin, "",
    ),
    "paused_beats_dry_run": (
        situation(DOWN, incident=incident(), policy=policy(mode="DryRun", pause_annotation="x")), Blocked, "Paused",
    ),
    "a_damaged_database_explains_it": (
        situation(DOWN, incident=incident(), others=(CAUSE,)), Wait, "ExplainedByCause",
    ),
    "a_cause_that_is_over_explains_nothing": (
        situation(DOWN, incident=incident(), others=(CAUSE.model_copy(update={"resolved_at": NOW}),)), Begin, "",
    ),
    "a_cause_that_does_not_end_explains_nothing": (
        situation(DOWN, incident=incident(), others=(CAUSE.model_copy(update={"opened_at": NOW - minutes(15)}),)),
        Begin, "",
    ),
    "a_less_severe_cause_explains_nothing": (
        situation(DOWN, incident=incident(), others=(CAUSE.model_copy(update={"severity": Severity.P1}),)), Begin, "",
    ),
    "a_less_severe_cause_explains_what_is_not_critical": (
        situation(DOWN, incident=incident(severity=Severity.P1),
                  others=(CAUSE.model_copy(update={"severity": Severity.P2}),)), Wait, "ExplainedByCause",
    ),
    "what_has_become_critical_waits_for_no_less": (
        situation(DOWN, incident=incident(severity=Severity.P0),
                  others=(CAUSE.model_copy(update={"severity": Severity.P2}),)), Begin, "",
    ),
    "an_incident_that_explains_others_only": (
        situation(DOWN, incident=incident(), others=(CAUSE.model_copy(update={"runbook": "CacheHitRatioDrop"}),)),
        Begin, "",
    ),
    "our_own_work_is_in_progress": (
        situation(replace(DOWN, own_work=(ROLLOUT,)), incident=incident()), Wait, "OwnWork",
    ),
    "critical_does_not_wait_for_a_window": (
        situation(DOWN, incident=incident(), policy=policy(maintenanceWindows=[
            {"days": ["Sat"], "start": "02:00", "duration": "1h"}])), Begin, "",
    ),
    "critical_does_not_cool_down": (situation(DOWN, incident=incident(failed(ago=seconds(90)))), Begin, ""),
    "the_kubelet_is_faster": (
        situation(replace(DOWN, chroma_pods=chroma(None)), incident=incident()), Wait, "PodMissing",
    ),
    "the_budget_is_used_up": (
        situation(DOWN, incident=incident(), journal=Journal(attempts=(RECENT.model_copy(update={"id": "x-1"}),)),
                  policy=policy(budget={"maxActions": 1, "per": "10m"})), Wait, "BudgetExhausted",
    ),
    "the_target_is_busy": (
        situation(DOWN, incident=incident(), journal=Journal(attempts=(attempt(id="demo-other-0001-1"),))),
        Wait, "TargetBusy",
    ),
    "all_attempts_are_used": (
        situation(DOWN, incident=incident(failed(1), failed(2)), policy=runbook_policy({"maxAttempts": 2})),
        Escalate, "AttemptsExhausted",
    ),
    "withdrawn_attempts_count": (
        situation(DOWN, incident=incident(*(failed(n, outcome=Outcome.BLOCKED) for n in (1, 2, 3)))),
        Escalate, "AttemptsExhausted",
    ),
    "three_restarts_in_an_hour_over_all_incidents": (
        situation(DOWN, incident=incident(), journal=Journal(attempts=tuple(
            failed(n, ago=minutes(50 - n), id=f"demo-chroma-unreachable-000{n}-1") for n in (2, 3, 4)))),
        Escalate, "RestartLoop",
    ),
    "a_restart_an_hour_ago_is_forgotten": (
        situation(DOWN, incident=incident(), journal=Journal(attempts=tuple(
            failed(n, ago=ago, id=f"demo-chroma-unreachable-000{n}-1")
            for n, ago in ((2, minutes(62)), (3, minutes(40)), (4, minutes(30)))))),
        Begin, "",
    ),
    "restarts_that_were_not_carried_out_are_none": (
        situation(DOWN, incident=incident(), journal=Journal(attempts=tuple(
            failed(n, id=f"demo-chroma-unreachable-000{n}-1", outcome=Outcome.DRY_RUN) for n in (2, 3, 4)))),
        Begin, "",
    ),
    "two_actions_in_a_row_made_things_worse": (
        situation(DOWN, incident=incident(worse(1), worse(2))), Escalate, "MadeWorse",
    ),
    "what_was_worse_is_remembered_for_days": (
        situation(DOWN, incident=incident(), journal=Journal(attempts=tuple(
            worse(n, ago=timedelta(days=3), id=f"demo-high-query-latency-000{n}-1") for n in (1, 2)))),
        Escalate, "MadeWorse",
    ),
    "one_action_that_made_things_worse_is_not_enough": (
        situation(DOWN, incident=incident(worse(1, ago=minutes(10)), failed(2, ago=minutes(5)))), Begin, "",
    ),
    "a_human_has_resumed_since": (
        situation(DOWN, incident=incident(worse(1), worse(2)), policy=policy(resume_annotation="2026-01-07T11:59:00Z")),
        Begin, "",
    ),
    "a_human_resumed_before_it_got_worse_again": (
        situation(DOWN, incident=incident(worse(1), worse(2)), policy=policy(resume_annotation="2026-01-07T11:00:00Z")),
        Escalate, "MadeWorse",
    ),
    "an_image_that_cannot_be_pulled_calls_a_human": (
        situation(NO_IMAGE, incident=incident()), Escalate, "NoOptionApplicable",
    ),
    "a_human_is_called_also_while_paused": (
        situation(NO_IMAGE, incident=incident(), policy=policy(pause_annotation="x")), Escalate, "NoOptionApplicable",
    ),
    "a_human_is_called_once": (
        situation(NO_IMAGE, incident=incident(escalation=escalated("NoOptionApplicable"))),
        Blocked, "NoOptionApplicable",
    ),
    "an_image_that_can_be_pulled_again_leaves_the_restart": (
        situation(DOWN, incident=incident(escalation=escalated("NoOptionApplicable"))), Begin, "",
    ),
    "down_for_too_long": (situation(DOWN, incident=incident(detected_at=NOW - minutes(16))), Escalate, "DownTooLong"),
    "unknown_for_too_long": (
        situation(UNKNOWN, incident=incident(detected_at=NOW - minutes(16))), Escalate, "DownTooLong",
    ),
    "an_escalation_by_the_clock_leaves_the_attempts": (
        situation(DOWN, incident=incident(detected_at=NOW - minutes(16),
                                          escalation=escalated("DownTooLong", Level.TEAM_LEAD))),
        Begin, "",
    ),
    "an_escalation_by_exhaustion_ends_them": (
        situation(DOWN, incident=incident(escalation=escalated("RestartLoop"))), Blocked, "HandedOver",
    ),
    "exhaustion_after_an_escalation_by_the_clock_is_said": (
        situation(DOWN, incident=incident(failed(1, ago=minutes(200)), failed(2, ago=minutes(150)),
                                          failed(3, ago=minutes(100)), escalation=escalated("DownTooLong"))),
        Blocked, "AttemptsExhausted",
    ),
    "inconclusive_calls_a_human": (
        situation(DOWN, incident=incident(failed(outcome=Outcome.INCONCLUSIVE))), Escalate, "Inconclusive",
    ),
    "inconclusive_and_still_unknown_calls_a_human": (
        situation(UNKNOWN, incident=incident(failed(outcome=Outcome.INCONCLUSIVE))), Escalate, "Inconclusive",
    ),
    "inconclusive_and_well_again_calls_nobody": (
        situation(facts(), incident=incident(failed(outcome=Outcome.INCONCLUSIVE), opened_at=NOW - minutes(9))),
        Resolve, "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", REMEDY.values(), ids=REMEDY.keys())
def test_with_an_incident(row: Row) -> None:
    decision = check(row)
    if isinstance(decision, Escalate):
        assert decision.escalation.next_step


def test_an_attempt_is_complete_before_anything_is_done() -> None:
    decision = decide(situation(DOWN, incident=incident(failed(1)), operator="operator-b"))
    assert isinstance(decision, Begin)
    begun = decision.attempt
    assert (begun.id, begun.option, begun.claimed_by) == (
        "demo-chroma-unreachable-0001-2",
        "RestartChroma",
        "operator-b",
    )
    assert begun.action == restart()
    assert (begun.started, begun.acted, begun.finished) == (NOW, None, None)
    assert {sli.name: sli.value for sli in begun.before} == {
        "chroma_available": 0.0, "breaker_state": 2.0, "error_ratio": 0.0,
    }  # fmt: skip


def test_the_message_says_what_helps() -> None:
    decision = decide(situation(NO_IMAGE, incident=incident()))
    assert isinstance(decision, Escalate)
    assert "Fix the image name" in decision.escalation.next_step
    assert "manifest unknown" in decision.escalation.next_step


NEW_POD = facts(chroma_pods=RESTARTED)
SENT = attempt(acted=NOW - minutes(1))
IN_FLIGHT: dict[str, Row] = {
    "killed_between_intent_and_action": (situation(DOWN, incident=incident(attempt())), Perform, ""),
    "killed_between_action_and_note": (
        situation(replace(DOWN, chroma_pods=RESTARTED), incident=incident(attempt(started=NOW - seconds(5)))),
        Wait, "Settling",
    ),
    "the_target_is_being_deleted": (
        situation(replace(DOWN, chroma_pods=chroma(pod(is_terminating=True))),
                  incident=incident(attempt(started=NOW - seconds(5)))), Wait, "Settling",
    ),
    "killed_after_the_action_and_well_again": (situation(NEW_POD, incident=incident(attempt(started=NOW - A_MINUTE))),
                                               Conclude, "Successful"),
    "the_signal_cleared_before_it_was_sent": (situation(incident=incident(attempt())), Conclude, "Blocked"),
    "the_signal_is_unknown_before_it_was_sent": (situation(UNKNOWN, incident=incident(attempt())), Uncertain, ""),
    "paused_before_it_was_sent": (
        situation(DOWN, incident=incident(attempt()), policy=policy(pause_annotation="x")), Conclude, "Blocked",
    ),
    "disabled_before_it_was_sent": (
        situation(DOWN, incident=incident(attempt()), policy=policy(mode="Disabled")), Conclude, "Blocked",
    ),
    "changed_to_dry_run_before_it_was_sent": (
        situation(DOWN, incident=incident(attempt()), policy=policy(mode="DryRun")), Conclude, "Blocked",
    ),
    "the_kubelet_restarted_it_before_it_was_sent": (
        situation(replace(DOWN, chroma_pods=chroma(pod(is_ready=False, container=waiting("ContainerCreating", "")))),
                  incident=incident(attempt())), Wait, "ContainerStarting",
    ),
    "the_image_went_away_before_it_was_sent": (situation(NO_IMAGE, incident=incident(attempt())), Conclude, "Blocked"),
    "not_sent_in_time": (situation(DOWN, incident=incident(attempt(started=NOW - minutes(6)))), Conclude, "Blocked"),
    "the_pods_are_unknown": (
        situation(replace(DOWN, chroma_pods=unknown("pods")), incident=incident(attempt())), Uncertain, "",
    ),
    "the_pods_stay_unknown": (
        situation(replace(DOWN, chroma_pods=unknown("pods")), incident=incident(attempt(started=NOW - minutes(6)))),
        Conclude, "Inconclusive",
    ),
    "another_operator_has_claimed_it": (
        situation(DOWN, incident=incident(attempt(started=NOW - seconds(5))), operator="operator-b"),
        Wait, "ClaimedByAnother",
    ),
    "another_operator_claimed_it_and_died": (
        situation(DOWN, incident=incident(attempt(started=NOW - seconds(15))), operator="operator-b"), Perform, "",
    ),
    "settling": (situation(DOWN, incident=incident(attempt(acted=NOW - seconds(14)))), Wait, "Settling"),
    "verifying": (situation(DOWN, incident=incident(SENT)), Wait, "Verifying"),
    "better": (situation(NEW_POD, incident=incident(SENT)), Conclude, "Successful"),
    "verified_also_while_paused": (
        situation(NEW_POD, incident=incident(SENT), policy=policy(pause_annotation="x")), Conclude, "Successful",
    ),
    "no_change_one_second_before_the_deadline": (
        situation(DOWN, incident=incident(attempt(acted=NOW - seconds(314)))), Wait, "Verifying",
    ),
    "no_change_at_the_deadline": (
        situation(DOWN, incident=incident(attempt(acted=NOW - seconds(315)))), Conclude, "Failed",
    ),
    "unknown_before_the_deadline": (
        situation(facts(chroma_pods=RESTARTED, breaker_state=unknown()), incident=incident(SENT)), Wait, "Verifying",
    ),
    "unknown_at_the_deadline": (
        situation(facts(chroma_pods=RESTARTED, breaker_state=unknown()),
                  incident=incident(attempt(acted=NOW - seconds(315)))), Conclude, "Inconclusive",
    ),
    "worse_at_the_deadline": (
        situation(facts(chroma_pods=RESTARTED, error_ratio=Known(0.5, NOW)),
                  incident=incident(worse(acted=NOW - seconds(315), finished=None, outcome=None))),
        Conclude, "Failed",
    ),
    "an_option_that_this_version_does_not_know": (
        situation(DOWN, incident=incident(attempt(option="ScaleOut"))), Conclude, "Inconclusive",
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", IN_FLIGHT.values(), ids=IN_FLIGHT.keys())
def test_attempt_in_flight(row: Row) -> None:
    decision = check(row)
    if isinstance(decision, Conclude):
        assert decision.attempt.finished == NOW
        assert decision.attempt.message


LONG_OPEN = incident(opened_at=NOW - minutes(9), detected_at=NOW - minutes(9))

HEALING: dict[str, tuple[Facts, IncidentRecord, Policy | None, type, timedelta | None]] = {
    # how long the healthy period has run; None when the incident closes
    "good_for_the_healthy_period": (facts(), LONG_OPEN, None, Resolve, None),
    "good_for_a_moment": (
        facts(breaker_state=per_pod(changing(2.0, 0.0, since=seconds(20)))), incident(), None, Wait, seconds(20),
    ),
    "bad_in_between_starts_again": (
        facts(breaker_state=per_pod(changing(2.0, 0.0, since=seconds(20)))),
        incident(healthy_since=NOW - minutes(5)), None, Wait, seconds(20),
    ),
    "longer_than_the_samples_reach_back": (
        facts(), LONG_OPEN.model_copy(update={"healthy_since": NOW - minutes(9)}),
        runbook_policy({"healthyPeriod": "10m"}), Wait, minutes(9),
    ),
    "not_before_it_was_opened": (
        facts(), incident(opened_at=NOW - seconds(7), detected_at=NOW - seconds(20)), None, Wait, seconds(7),
    ),
    "not_before_it_was_acted_on": (
        facts(), incident(failed(acted=NOW - seconds(6)), healthy_since=NOW - minutes(5)), None, Wait, seconds(6),
    ),
    "closes_by_itself_after_an_escalation": (
        facts(), LONG_OPEN.model_copy(update={"escalation": escalated("AttemptsExhausted")}), None, Resolve, None,
    ),
    "closes_by_itself_while_disabled": (facts(), LONG_OPEN, policy(mode="Disabled"), Resolve, None),
}  # fmt: skip


@pytest.mark.parametrize(("at", "record", "allowed", "kind", "since"), HEALING.values(), ids=HEALING.keys())
def test_healing(
    at: Facts, record: IncidentRecord, allowed: Policy | None, kind: type, since: timedelta | None
) -> None:
    decision = decide(situation(at, incident=record, policy=allowed))
    assert isinstance(decision, kind)
    if isinstance(decision, Wait) and since is not None:
        assert decision.reason == "HealthyPeriod"
        assert decision.healthy_since == NOW - since


def test_the_same_situation_gives_the_same_decision() -> None:
    at = situation(DOWN, incident=incident(failed(1)))
    assert decide(at) == decide(at)


def test_a_canary_that_fails_alone_is_enough_to_act() -> None:
    at = facts(canary_success_ratio=per_pod(series(0.0)))
    assert isinstance(decide(situation(at, incident=incident())), Begin)
