"""Incident 8 as tables: what opens it, what picks 8E, 8A or 8B, what is refused, and when it is over."""

from dataclasses import replace
from datetime import timedelta

import pytest

from corruption import (
    CLAIM,
    LOSS_SENTENCE,
    NAME,
    asked_for,
    backup,
    checked,
    found,
    incident,
    malformed,
    refused,
    served_again,
    situation,
    task,
)
from kb_facts import NOW, facts, minutes, per_pod, pod, policy, seconds, series, unknown
from knowledgebeast_operator.core.actions import Task
from knowledgebeast_operator.core.approvals import Approval, ask
from knowledgebeast_operator.core.components import DATABASE_TROUBLE
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
from knowledgebeast_operator.core.facts import Row as Sample
from knowledgebeast_operator.core.ledger import (
    Attempt,
    DataLoss,
    Escalation,
    IncidentRecord,
    Journal,
    Outcome,
    Sli,
    TaskReport,
)
from knowledgebeast_operator.core.manual import assess_manual, decide_manual
from knowledgebeast_operator.core.overlays import Fence
from knowledgebeast_operator.core.policy import Policy
from knowledgebeast_operator.core.runbook import Detected
from knowledgebeast_operator.core.situation import Situation
from knowledgebeast_operator.core.transition import transition
from knowledgebeast_operator.runbooks.database_corruption import RUNBOOK

FENCE = Fence(incident=NAME, attempt=f"{NAME}-2", at=NOW - seconds(10))
NO_PODS = Known((), NOW)
DOWN = facts(database_up=Known({"demo-a": series(0.0), "demo-b": series(1.0)}, NOW))
TOLD = Escalation(at=NOW - minutes(1), reason="RestoreBlocked", message="No backup.", next_step="Bring one.")
REPAIRED = TaskReport(ok=True, message="`restore` succeeded.", figures={"documents": 90.0})


def said(decision: Decision) -> str:
    match decision:
        case Open(reason=reason) | Wait(reason=reason) | Blocked(reason=reason):
            return reason
        case Escalate(escalation=escalation):
            return escalation.reason
        case Begin(attempt=attempt) | Perform(attempt=attempt):
            return attempt.action.command if isinstance(attempt.action, Task) else attempt.action.type
        case Conclude(attempt=attempt):
            return str(attempt.outcome)
        case _:
            return ""


Row = tuple[Situation, type, str]

WATCHING: dict[str, Row] = {
    "never_checked_and_no_pod_complains": (situation(facts()), Healthy, ""),
    "checked_and_whole": (situation(facts(integrity=checked("none"))), Healthy, ""),
    "a_check_that_found_damage_opens_at_once": (
        situation(facts(integrity=checked("pages", ago=seconds(1)))), Open, "PagesDamaged",
    ),
    "a_pod_that_met_damage_opens_at_once": (situation(malformed(seconds(1))), Open, "CorruptionReported"),
    "also_one_that_is_not_ready": (
        situation(malformed(service_pods=Known((pod("demo-a", is_ready=False), pod("demo-b")), NOW))),
        Open, "CorruptionReported",
    ),
    "what_a_check_has_answered_since_is_over": (
        situation(malformed(minutes(1), integrity=checked("none", ago=seconds(10)))), Healthy, "",
    ),
    "what_came_after_the_check_is_not": (
        situation(malformed(seconds(10), integrity=checked("none", ago=minutes(1)))), Open, "CorruptionReported",
    ),
    "an_error_that_is_older_than_the_window_is_not_forgotten": (
        situation(facts(database_errors=per_pod(series(2.0)))), Open, "CorruptionReported",
    ),
    "a_database_that_cannot_be_read_for_long": (situation(DOWN), Open, "CorruptionReported"),
    "a_database_that_cannot_be_read_for_a_moment": (
        situation(facts(database_up=per_pod(series(lambda at: 0.0 if at > NOW - seconds(15) else 1.0)))),
        Wait, "Holding",
    ),
    "our_own_rollout_explains_no_damage": (
        situation(malformed(own_work=(OwnWork("Rollout", "service", "x", NOW),))), Open, "CorruptionReported",
    ),
    "a_silent_pod_is_not_known_to_be_well": (
        situation(facts(database_errors=unknown("kb_database_errors_total"))), Uncertain, "",
    ),
    "no_pod_at_all_is_unknown": (
        situation(facts(service_pods=NO_PODS, integrity=checked("none"))), Uncertain, "",
    ),
    "without_pods_a_check_still_counts": (
        situation(facts(service_pods=NO_PODS, integrity=checked("missing"))), Open, "DatabaseMissing",
    ),
    "a_wrong_volume_is_an_incident": (situation(facts(integrity=checked("wrong-volume"))), Open, "WrongVolume"),
}  # fmt: skip


@pytest.mark.parametrize("row", WATCHING.values(), ids=WATCHING.keys())
def test_without_an_incident(row: Row) -> None:
    at, kind, reason = row
    decision = decide(at)
    assert isinstance(decision, kind), decision
    assert said(decision) == reason


REMEDY: dict[str, Row] = {
    "what_a_pod_met_is_checked_first": (
        situation(malformed(), incident()), Begin, "knowledgebeast maintain check",
    ),
    "an_old_check_is_no_reason_to_restore": (
        situation(malformed(seconds(10), integrity=checked("none", ago=minutes(1))), incident()),
        Begin, "knowledgebeast maintain check",
    ),
    "indexes_are_built_again": (
        situation(malformed(), incident(found("index"))), Begin, "knowledgebeast maintain reindex",
    ),
    "the_scheduled_check_picks_too": (
        situation(facts(integrity=checked("index")), incident()), Begin, "knowledgebeast maintain reindex",
    ),
    "pages_are_restored": (
        situation(malformed(), incident(found("pages"))), Begin, "knowledgebeast maintain restore",
    ),
    "what_reindex_did_not_cure_is_restored": (
        situation(malformed(), incident(found("index", 1), task("reindex", 2, ago=minutes(3), report=TaskReport(
            ok=False, message="problems are left")))), Begin, "knowledgebeast maintain restore",
    ),
    "indexes_out_of_step_again_after_reindex_are_restored": (
        situation(malformed(), incident(
            found("index", 1, ago=minutes(9)), task("reindex", 2, ago=minutes(6), report=TaskReport(ok=True)),
            found("index", 3, ago=minutes(2)))), Begin, "knowledgebeast maintain restore",
    ),
    **{
        f"{damage}_is_looked_at_twice": (
            situation(facts(integrity=checked(damage)), incident()), Begin, "knowledgebeast maintain check",
        )
        for damage in ("missing", "empty", "not-a-database")
    },
    **{
        f"{damage}_found_twice_is_restored": (
            situation(facts(integrity=checked(damage, ago=minutes(7))), incident(found(damage))),
            Begin, "knowledgebeast maintain restore",
        )
        for damage in ("missing", "empty", "not-a-database")
    },
    "the_same_check_seen_twice_is_one": (
        situation(facts(integrity=checked("missing", attempt=f"{NAME}-1")), incident(found("missing"))),
        Begin, "knowledgebeast maintain check",
    ),
    "a_wrong_volume_is_never_restored": (
        situation(facts(integrity=checked("wrong-volume")), incident()), Escalate, "NoOptionApplicable",
    ),
    "another_schema_is_never_restored": (
        situation(facts(integrity=checked("schema")), incident()), Escalate, "NoOptionApplicable",
    ),
    "without_a_good_backup_nothing_more_is_done": (
        situation(malformed(), incident(found("pages"), refused("NoVerifiedBackup"))), Escalate, "RestoreBlocked",
    ),
    "and_stays_so": (
        situation(malformed(), incident(found("pages"), refused("NoVerifiedBackup"), escalation=TOLD)),
        Blocked, "NoOptionApplicable",
    ),
    "a_newer_backup_is_a_reason_to_try_again": (
        situation(malformed(protection=backup(ago=minutes(1))),
                  incident(found("pages"), refused("NoVerifiedBackup"), escalation=TOLD)),
        Begin, "knowledgebeast maintain restore",
    ),
    "too_great_a_loss_is_written_down_with_what_it_needs": (
        situation(malformed(), incident(found("pages"), refused("ExpectedLossTooHigh"))),
        Begin, "knowledgebeast maintain restore --approve-loss",
    ),
    "the_kill_switch_wins": (
        situation(malformed(), incident(found("pages")), policy(mode="Disabled")), Blocked, "Disabled",
    ),
    "a_pause_wins": (
        situation(malformed(), incident(found("pages")), policy(pause_annotation="x")), Blocked, "Paused",
    ),
    "a_window_does_not": (
        situation(malformed(), incident(found("pages")), policy(maintenanceWindows=[
            {"days": ["Sat"], "start": "02:00", "duration": "1h"}])), Begin, "knowledgebeast maintain restore",
    ),
    "three_checks_in_vain_call_a_human": (
        situation(malformed(seconds(5)), incident(*(found("none", n, ago=minutes(10 - n)) for n in (1, 2, 3)))),
        Escalate, "CheckedInVain",
    ),
    "more_than_an_hour_of_writes_lost_calls_a_human": (
        situation(malformed(seconds(5)), incident(
            task("restore", 1, report=REPAIRED), data_loss=DataLoss(
                documents_lower=1, documents_upper=2, rpo_seconds=3601.0))), Escalate, "RpoExceeded",
    ),
    "what_a_refused_restore_would_lose_is_asked_about_and_not_told_as_lost": (
        situation(malformed(), incident(found("pages"), refused("ExpectedLossTooHigh"), data_loss=DataLoss(
            documents_lower=1, rpo_seconds=10_800.0))), Begin, "knowledgebeast maintain restore --approve-loss",
    ),
    "a_tenth_of_the_documents_lost_calls_a_human": (
        situation(malformed(seconds(5)), incident(
            task("restore", 1, report=REPAIRED), data_loss=DataLoss(documents_lower=0, documents_upper=11))),
        Escalate, "ManyDocumentsLost",
    ),
    "the_share_that_may_be_lost_is_a_field": (
        situation(malformed(seconds(5)), incident(
            task("restore", 1, report=REPAIRED), data_loss=DataLoss(documents_lower=0, documents_upper=9)),
            policy(runbooks=[{"name": "DatabaseCorruption", "thresholds": {"lossPercent": 5}}])),
        Escalate, "ManyDocumentsLost",
    ),
    "a_loss_that_nobody_can_bound_calls_a_human": (
        situation(malformed(seconds(5)), incident(
            task("restore", 1, report=REPAIRED), data_loss=DataLoss(documents_lower=3))), Escalate, "LossUnknown",
    ),
    "a_great_loss_is_told_though_all_is_well_again": (
        situation(served_again(NOW - minutes(3)), incident(
            task("restore", 2, ago=minutes(4), report=REPAIRED, outcome=Outcome.SUCCESSFUL),
            data_loss=DataLoss(documents_lower=0, documents_upper=11))), Escalate, "ManyDocumentsLost",
    ),
    "a_small_loss_calls_nobody": (
        situation(served_again(NOW - minutes(3)), incident(
            task("restore", 2, ago=minutes(4), report=REPAIRED, outcome=Outcome.SUCCESSFUL),
            data_loss=DataLoss(documents_lower=0, documents_upper=9))), Resolve, "",
    ),
    "four_hours_call_a_human": (
        situation(malformed(), incident(found("pages"), detected_at=NOW - timedelta(hours=5))),
        Escalate, "RtoExceeded",
    ),
    "what_a_repair_found_whole_is_whole": (
        situation(facts(), incident(found("index"), refused("NothingToRepair"), opened_at=NOW - minutes(9))),
        Wait, "HealthyPeriod",
    ),
    "a_lost_node_calls_a_human": (
        situation(malformed(), incident(found("pages"), refused("NodeLost"))), Escalate, "NodeLost",
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", REMEDY.values(), ids=REMEDY.keys())
def test_with_an_incident(row: Row) -> None:
    at, kind, reason = row
    decision = decide(at)
    assert isinstance(decision, kind), decision
    assert said(decision) == reason


def under_way(number: int = 2, **changes: object) -> Attempt:
    """A restore that has been written down 20 s ago."""
    whole = task("restore", number, ago=seconds(20), report=REPAIRED)
    nothing = {"begun": None, "acted": None, "finished": None, "outcome": None, "report": None, "message": ""}
    return whole.model_copy(update=nothing | changes)


BEGUN = under_way(begun=NOW - seconds(15), stage="Fencing")
UNSEEN = facts(service_pods=NO_PODS, integrity=checked("pages"))
BLIND = facts(service_pods=NO_PODS, database_errors=unknown("kb_database_errors_total"))
IN_FLIGHT: dict[str, Row] = {
    "a_restore_that_is_written_down_is_performed": (
        situation(malformed(), incident(found("pages"), under_way())), Perform, "knowledgebeast maintain restore",
    ),
    "one_that_has_begun_goes_on_without_any_signal": (
        situation(BLIND, incident(BEGUN)), Perform, "knowledgebeast maintain restore",
    ),
    "one_whose_fence_stands_has_begun": (
        situation(replace(BLIND, fence=FENCE), incident(under_way())), Perform, "knowledgebeast maintain restore",
    ),
    "one_whose_task_has_a_pod_has_begun": (
        situation(replace(BLIND, started=frozenset({f"{NAME}-2"})), incident(under_way())),
        Perform, "knowledgebeast maintain restore",
    ),
    "the_fence_of_another_attempt_says_nothing": (
        situation(replace(BLIND, fence=FENCE.model_copy(update={"attempt": f"{NAME}-1"})), incident(under_way())),
        Uncertain, "",
    ),
    "one_that_has_begun_is_not_withdrawn_by_its_age": (
        situation(UNSEEN, incident(BEGUN.model_copy(update={"started": NOW - minutes(50)}))),
        Perform, "knowledgebeast maintain restore",
    ),
    "one_that_has_begun_goes_on_while_paused_and_the_executor_decides": (
        situation(UNSEEN, incident(BEGUN), policy(pause_annotation="x")), Perform, "knowledgebeast maintain restore",
    ),
    "the_kill_switch_holds_even_that": (
        situation(UNSEEN, incident(BEGUN), policy(mode="Disabled")), Blocked, "Disabled",
    ),
    "one_that_has_not_begun_is_withdrawn_when_paused": (
        situation(malformed(), incident(found("pages"), under_way()), policy(pause_annotation="x")),
        Conclude, "Blocked",
    ),
    "one_that_has_not_begun_is_withdrawn_when_all_is_well": (
        situation(facts(integrity=checked("none", ago=seconds(1))), incident(under_way())), Conclude, "Blocked",
    ),
    "a_check_that_found_damage_is_a_diagnosis": (
        situation(malformed(), incident(found("pages").model_copy(update={"finished": None, "outcome": None}))),
        Conclude, "Diagnosed",
    ),
    "a_check_that_could_not_run_has_failed": (
        situation(malformed(), incident(task("check", 1, finished=None, outcome=None, report=TaskReport(
            ok=False, has_result=False, refused=False, reason="NoResult", message="killed")))), Conclude, "Failed",
    ),
    "a_refused_restore_is_blocked_at_once": (
        situation(UNSEEN, incident(refused("NoVerifiedBackup").model_copy(update={"finished": None, "outcome": None}))),
        Conclude, "Blocked",
    ),
    "a_failed_restore_has_failed_at_once": (
        situation(UNSEEN, incident(under_way(begun=NOW, acted=NOW, report=TaskReport(ok=False, message="m")))),
        Conclude, "Failed",
    ),
    "after_a_good_restore_the_pods_are_awaited": (
        situation(facts(service_pods=NO_PODS), incident(under_way(acted=NOW - seconds(30), report=REPAIRED))),
        Wait, "Verifying",
    ),
    "old_pods_do_not_count_as_served_again": (
        situation(facts(), incident(under_way(acted=NOW - seconds(40), report=REPAIRED))), Wait, "Verifying",
    ),
    "new_pods_that_read_it_for_three_samples": (
        situation(served_again(NOW - seconds(40)), incident(under_way(acted=NOW - seconds(40), report=REPAIRED))),
        Conclude, "Successful",
    ),
    "two_samples_are_not_enough": (
        situation(served_again(NOW - seconds(15)), incident(under_way(acted=NOW - seconds(15), report=REPAIRED))),
        Wait, "Verifying",
    ),
    "new_pods_that_meet_damage_again": (
        situation(
            replace(served_again(NOW - minutes(6)), database_errors=per_pod(series(1.0), ("demo-c", "demo-d"))),
            incident(under_way(started=NOW - minutes(8), acted=NOW - minutes(6), report=REPAIRED))),
        Conclude, "Failed",
    ),
    "answers_that_fail_are_no_success": (
        situation(
            replace(served_again(NOW - minutes(6)), error_ratio=Known(0.9, NOW)),
            incident(under_way(started=NOW - minutes(8), acted=NOW - minutes(6), report=REPAIRED))),
        Conclude, "Failed",
    ),
    "signals_that_stay_away_are_inconclusive": (
        situation(
            replace(served_again(NOW - minutes(6)), database_up=unknown("kb_component_up")),
            incident(under_way(started=NOW - minutes(8), acted=NOW - minutes(6), report=REPAIRED))),
        Conclude, "Inconclusive",
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", IN_FLIGHT.values(), ids=IN_FLIGHT.keys())
def test_with_an_attempt_in_flight(row: Row) -> None:
    at, kind, reason = row
    decision = decide(at)
    assert isinstance(decision, kind), decision
    assert said(decision) == reason


@pytest.mark.parametrize(
    ("troubled", "ago", "reason"),
    [
        ("demo-a", minutes(3), "Successful"),  # a pod of before the repair
        ("demo-c", minutes(3), "Verifying"),
        ("demo-c", minutes(6), "Failed"),
        ("demo-a", minutes(1), "Verifying"),  # the ratio still counts answers of before
    ],
)
def test_errors_that_are_not_the_databases_do_not_hold_a_repair_up(troubled: str, ago: timedelta, reason: str) -> None:
    row = Sample({"pod": troubled, "kind": "corrupt"}, 3, NOW)
    at = replace(
        served_again(NOW - ago), error_ratio=Known(0.9, NOW), rows_by_name={DATABASE_TROUBLE: Known((row,), NOW)}
    )
    attempt = under_way(started=NOW - ago - minutes(1), acted=NOW - ago, report=REPAIRED)
    before = attempt.model_copy(update={"before": (Sli(name="error_ratio", value=0.4, unit="ratio"),)})
    decision = decide(situation(at, incident(before)))
    assert said(decision) == reason
    if isinstance(decision, Conclude) and reason == "Successful":
        assert "90% of the answers are errors." in decision.attempt.message


def test_a_repair_clears_the_signals_and_the_incident_closes_after_a_healthy_period() -> None:
    restored = task("restore", 2, ago=minutes(4), report=REPAIRED, outcome=Outcome.SUCCESSFUL)
    decision = decide(situation(served_again(NOW - minutes(3)), incident(found("pages"), restored)))
    assert isinstance(decision, Resolve), decision


def test_the_damage_found_before_a_repair_does_not_reopen_it() -> None:
    restored = task("restore", 2, ago=minutes(4), report=REPAIRED, outcome=Outcome.SUCCESSFUL)
    at = situation(served_again(NOW - minutes(3)), incident(found("pages"), restored))
    assert not isinstance(at.diagnosis, Detected)


def test_of_the_options_a_look_is_no_attempt() -> None:
    """Three looks do not use up the three attempts."""
    record = incident(*(found("missing", n, ago=minutes(10 - n)) for n in (1, 2, 3, 4)))
    decision = decide(situation(facts(service_pods=NO_PODS), record))
    assert isinstance(decision, Begin)
    assert said(decision) == "knowledgebeast maintain restore"


ASKED = ask(LOSS_SENTENCE, f"{NAME}-3", under_way().action, ())


def waiting(**changes: object) -> Attempt:
    whole = under_way(3, approval=ASKED, **changes)
    action = whole.action.model_copy(update={"arguments": ("--approve-loss",)})
    return whole.model_copy(update={"action": action})


def record_waiting(**changes: object) -> IncidentRecord:
    return incident(found("pages"), refused("ExpectedLossTooHigh"), waiting(**changes), escalation=TOLD)


def approval(*, evidence_hash: str = ASKED.evidence_hash, attempt: str = f"{NAME}-3", ago: float = 5) -> Approval:
    return Approval("yes", "uid-yes", NAME, attempt, evidence_hash, NOW - seconds(ago))


APPROVALS: dict[str, tuple[tuple[Approval, ...], type]] = {
    "without_one_it_waits": ((), Wait),
    "with_one_it_is_performed": ((approval(),), Perform),
    "one_for_another_attempt_is_none": ((approval(attempt=f"{NAME}-2"),), Wait),
    "one_with_other_evidence_is_none": ((approval(evidence_hash="0" * 16),), Wait),
    "one_from_before_it_was_asked_is_none": ((approval(ago=30),), Wait),
}


@pytest.mark.parametrize(("approvals", "kind"), APPROVALS.values(), ids=APPROVALS.keys())
def test_an_approval(approvals: tuple[Approval, ...], kind: type) -> None:
    decision = decide(situation(malformed(), record_waiting(), approvals=approvals))
    assert isinstance(decision, kind), decision
    if isinstance(decision, Wait):
        assert decision.reason == "AwaitingApproval"
        assert LOSS_SENTENCE in decision.message


def test_an_approval_expires_after_an_hour() -> None:
    record = record_waiting(started=NOW - minutes(90))
    assert isinstance(decide(situation(malformed(), record, approvals=(approval(ago=59 * 60),))), Perform)
    assert isinstance(decide(situation(malformed(), record, approvals=(approval(ago=60 * 60),))), Wait)


def test_asking_calls_a_human_with_what_the_approval_has_to_name() -> None:
    record = record_waiting().model_copy(update={"escalation": None})
    decision = decide(situation(malformed(), record))
    assert isinstance(decision, Escalate)
    assert decision.escalation.reason == "AwaitingApproval"
    for word in (NAME, f"{NAME}-3", ASKED.evidence_hash):
        assert word in decision.escalation.next_step


def test_what_is_asked_depends_on_what_would_be_done() -> None:
    other = under_way().action.model_copy(update={"arguments": ("--backup", "x")})
    assert ask(LOSS_SENTENCE, "a-1", under_way().action, ()) != ask(LOSS_SENTENCE, "a-1", other, ())


def manual(record: IncidentRecord, at: Facts | None = None, policy: Policy | None = None) -> Decision:
    journal = Journal(attempts=record.attempts)
    seen = assess_manual(
        at or facts(), (RUNBOOK,), policy or Policy(), incident=record, journal=journal, operator="operator-a"
    )
    return seen if isinstance(seen, Resolve) else decide_manual(seen, record)


ENDED = task("check", 1, report=TaskReport(ok=True, values={"damage": "none"}))
BY_HAND: dict[str, tuple[Decision, type, str]] = {
    "a_check_of_a_healthy_database": (manual(asked_for("8E")), Begin, "knowledgebeast maintain check"),
    "an_option_by_its_name": (manual(asked_for("CheckIntegrity")), Begin, "knowledgebeast maintain check"),
    "a_reindex": (manual(asked_for("8A")), Begin, "knowledgebeast maintain reindex"),
    "a_restore_to_the_last_good_backup": (
        manual(asked_for("8B")), Begin, "knowledgebeast maintain restore --backup latest --approve-loss",
    ),
    "going_back_to_the_moment_of_a_backup": (
        manual(asked_for("8B", newerChanges="Drop")), Begin,
        "knowledgebeast maintain restore --backup latest --only-backup --approve-loss",
    ),
    "a_restore_to_a_chosen_backup": (
        manual(asked_for("8B", backup="20260107T110000Z-40")), Begin,
        "knowledgebeast maintain restore --backup 20260107T110000Z-40 --approve-loss",
    ),
    "an_option_that_there_is_not": (manual(asked_for("8Z")), Resolve, ""),
    "once_ended_it_is_over": (manual(asked_for("8E", ENDED)), Resolve, ""),
    "the_kill_switch_wins": (manual(asked_for("8B"), policy=policy(mode="Disabled")), Blocked, "Disabled"),
    "a_dry_run_is_written_down": (manual(asked_for("8B"), policy=policy(mode="DryRun")), Conclude, "DryRun"),
}  # fmt: skip


@pytest.mark.parametrize(("decision", "kind", "reason"), BY_HAND.values(), ids=BY_HAND.keys())
def test_what_a_person_asks_for(decision: Decision, kind: type, reason: str) -> None:
    assert isinstance(decision, kind), decision
    assert said(decision) == reason


def test_a_restore_by_hand_always_needs_an_approval_and_a_check_never_does() -> None:
    restore, check = manual(asked_for("8B")), manual(asked_for("8E"))
    assert isinstance(restore, Begin)
    assert isinstance(check, Begin)
    assert restore.attempt.approval is not None
    assert check.attempt.approval is None


def test_while_the_operator_restores_a_person_waits() -> None:
    record = asked_for("8B").model_copy(update={"name": "by-hand"})
    busy = Journal(attempts=(BEGUN,))
    at = assess_manual(facts(), (RUNBOOK,), Policy(), incident=record, journal=busy, operator="operator-a")
    assert not isinstance(at, Resolve)
    decision = decide_manual(at, record)
    assert isinstance(decision, Wait)
    assert decision.reason == "TargetBusy"


def test_a_request_that_waits_for_its_approval_keeps_nobody_from_the_database() -> None:
    by_hand = under_way(approval=ASKED).model_copy(update={"id": "by-hand-1"})
    record = incident(found("pages"))
    at = replace(situation(malformed(), record), journal=Journal(attempts=(*record.attempts, by_hand)))
    assert isinstance(decide(at), Begin)


def test_the_action_names_the_claim_by_uid() -> None:
    decision = decide(situation(malformed(), incident()))
    assert isinstance(decision, Begin)
    assert decision.attempt.action.target == CLAIM


def test_what_a_restore_lost_is_in_the_record() -> None:
    loss = DataLoss(documents_lower=2, documents_upper=5)
    record = incident(under_way(begun=NOW))
    after = transition(record, Perform(record.attempts[0].model_copy(update={"report": REPAIRED}), loss), NOW)
    assert after.data_loss is not None
    assert after.data_loss.model_copy(update=dict.fromkeys(VERDICTS)) == loss.model_copy(update={"rto_seconds": 360.0})
    assert after.attempts[0].acted == NOW
    assert after.attempts[0].report == REPAIRED
    assert after.timeline[-1].reason == "TaskEnded"


VERDICTS = ("rpo_target_seconds", "rpo_verdict", "rto_target_seconds", "rto_verdict")
RESTORED = {"report": REPAIRED}


@pytest.mark.parametrize(
    ("lost", "lasted", "verdicts"),
    [
        (0.0, timedelta(minutes=3), (3600.0, "Within", 14_400.0, "Within")),
        (3600.0, timedelta(hours=4), (3600.0, "Within", 14_400.0, "Within")),
        (3600.1, timedelta(hours=4, seconds=1), (3600.0, "Exceeded", 14_400.0, "Exceeded")),
        (None, timedelta(minutes=3), (3600.0, "Unknown", 14_400.0, "Within")),
    ],
)
def test_what_was_lost_and_how_long_it_took_is_judged(
    lost: float | None, lasted: timedelta, verdicts: tuple[object, ...]
) -> None:
    record = incident(under_way(begun=NOW)).model_copy(update={"detected_at": NOW - lasted})
    loss = DataLoss(documents_lower=2, documents_upper=5, rpo_seconds=lost)
    after = transition(record, Perform(record.attempts[0].model_copy(update=RESTORED), loss), NOW).data_loss
    assert after is not None
    assert tuple(getattr(after, name) for name in VERDICTS) == verdicts


def test_a_refused_restore_has_taken_no_time() -> None:
    record = incident(under_way(begun=NOW))
    report = refused("ExpectedLossTooHigh").report
    loss = DataLoss(documents_lower=0, rpo_seconds=10_800.0, rto_seconds=12.0)
    after = transition(record, Perform(record.attempts[0].model_copy(update={"report": report}), loss), NOW).data_loss
    assert after is not None
    assert (after.rpo_verdict, after.rto_seconds, after.rto_verdict) == ("Exceeded", None, "Unknown")
