"""Incident 4 as tables: what opens it, when a release is taken back, and every reason why not."""

import json
import math
from dataclasses import replace
from datetime import timedelta

import pytest

from answer_facts import (
    NEW_IMAGE,
    OLD,
    OLD_IMAGE,
    PODS,
    answers,
    bad_release,
    builds,
    components,
    database_errors,
    healthy_revision,
    history,
    served,
    service_pod,
)
from kb_facts import NOW, minutes, per_pod, policy, seconds, series, unknown
from kb_facts import situation as situation_of
from knowledgebeast_operator.core.actions import RunTask, SetFields
from knowledgebeast_operator.core.answers import ANSWER_HISTORY, ANSWERS, SERVER_ERROR_HISTORY
from knowledgebeast_operator.core.components import COMPONENTS, DATABASE_TROUBLE
from knowledgebeast_operator.core.decide import decide
from knowledgebeast_operator.core.decision import (
    Begin,
    Conclude,
    Decision,
    Escalate,
    Healthy,
    Open,
    Resolve,
    Revert,
    Uncertain,
    Wait,
)
from knowledgebeast_operator.core.facts import Facts, Known, OwnWork, Row
from knowledgebeast_operator.core.ledger import Attempt, IncidentRecord, Journal, Outcome, Severity, Sli, TaskReport
from knowledgebeast_operator.core.overlays import FieldOverlay, Overlays
from knowledgebeast_operator.core.probes import PROBE_SUCCESS
from knowledgebeast_operator.core.revisions import BUILD
from knowledgebeast_operator.core.rollback import IMAGE, KEY_ERRORS, POD_TEMPLATE
from knowledgebeast_operator.core.runbook import Applicable, Detected, NotApplicable, NotDetected, Pause
from knowledgebeast_operator.core.situation import Situation
from knowledgebeast_operator.custom_resource import Spec
from knowledgebeast_operator.custom_resource.spec import PodTemplate
from knowledgebeast_operator.runbooks.api_error_rate_spike import RUNBOOK, check_database, roll_back
from probe_facts import probed

NAME = "demo-api-error-rate-spike-0001"
SHORTLY = minutes(8)


def situation(at: Facts, **parts: object) -> Situation:
    return situation_of(at, runbook=RUNBOOK, **parts)  # type: ignore[arg-type]


LIMITS = situation(served()).limits
DETECTED = Detected("ServerErrors", "x", minutes(5))


def incident(*attempts: Attempt, **changes: object) -> IncidentRecord:
    whole = IncidentRecord(
        name=NAME,
        runbook=RUNBOOK.name,
        number=1,
        severity=Severity.P1,
        opened_at=NOW - minutes(4),
        detected_at=NOW - minutes(5),
        attempts=attempts,
    )
    return whole.model_copy(update=changes)


def rollback(**changes: object) -> Attempt:
    """A rollback to the old image that was put in force ten minutes ago."""
    found = roll_back(bad_release(), DETECTED, Journal(), LIMITS)
    assert isinstance(found, Applicable)
    whole = Attempt(
        id=f"{NAME}-1",
        option="RollBack",
        action=found.action,
        inverse=found.inverse,
        claimed_by="operator-a",
        started=NOW - minutes(10),
        acted=NOW - minutes(10),
        before=(Sli(name="error_ratio", value=0.2, unit="ratio"),),
    )
    return whole.model_copy(update=changes)


def overlay(
    value: object, *, runbook: str = RUNBOOK.name, ago: timedelta = SHORTLY, attempt: str = "demo-x-0001-1"
) -> FieldOverlay:
    return FieldOverlay(
        incident="demo-x-0001",
        attempt=attempt,
        at=NOW - ago,
        runbook=runbook,
        value=value,  # type: ignore[arg-type]
        instead_of=None,
    )


def said(decision: Decision) -> str:
    match decision:
        case Open(reason=reason) | Wait(reason=reason):
            return reason
        case Escalate(escalation=escalation):
            return escalation.reason
        case Begin(attempt=attempt):
            return attempt.option
        case Conclude(attempt=attempt):
            return str(attempt.outcome)
        case _:
            return ""


ROLLING = OwnWork("Rollout", "service", "x", NOW - minutes(1))
HALF = minutes(31)
NOT_READY = Known(tuple(service_pod(name, age=minutes(6), is_ready=False) for name in PODS), NOW)

WATCHING: dict[str, tuple[Facts, type, str]] = {
    "all_is_well": (served(), Healthy, ""),
    "more_than_one_percent": (bad_release(), Open, "ServerErrors"),
    "one_percent_is_within_the_limit": (
        served(answers(495, server=5), over=history(0.01, since=minutes(9))), Healthy, "",
    ),
    "a_little_for_less_than_half_an_hour": (
        served(answers(495, server=4), over=history(0.008, since=minutes(20))), Healthy, "",
    ),
    "a_little_for_half_an_hour": (
        served(answers(495, server=4), over=history(0.008, since=HALF)), Open, "PersistentServerErrors",
    ),
    "just_now": (served(answers(400, server=100), over=history(0.2, since=seconds(1))), Wait, "Holding"),
    "too_few_to_tell": (served(answers(40, server=40), over=history(0.5, requests=80)), Healthy, ""),
    "idle": (served(answers(0), over=history(0.0, requests=0)), Healthy, ""),
    "half_of_them_are_the_clients_fault": (served(answers(250, client=250)), Healthy, ""),
    "clients_do_not_hide_the_service": (
        served(answers(100, server=50, client=350), over=history(0.1, since=minutes(5))), Open, "ServerErrors",
    ),
    "a_rollout_of_our_own_explains_it": (bad_release(own_work=(ROLLING,)), Wait, "OwnWork"),
    "no_answer_of_prometheus": (served(over={ANSWERS: unknown("http_requests_total")}), Uncertain, ""),
    "not_a_number": (served(answers(math.nan)), Uncertain, ""),
    "pods_that_are_not_scraped_any_more": (bad_release(breaker_state=unknown()), Uncertain, ""),
    "no_pod_is_ready": (bad_release(service_pods=NOT_READY), Open, "ServerErrors"),
}  # fmt: skip


@pytest.mark.parametrize(("at", "expected", "reason"), WATCHING.values(), ids=WATCHING.keys())
def test_what_opens_an_incident(at: Facts, expected: type, reason: str) -> None:
    decision = decide(situation(at))
    assert (type(decision), said(decision)) == (expected, reason)


def test_limits_are_fields() -> None:
    milder = policy(runbooks=[{"name": RUNBOOK.name, "thresholds": {"serverErrorPercent": 25}}])
    assert isinstance(decide(situation(served(answers(400, server=100), over=history(0.2, since=minutes(5))))), Open)
    at = served(answers(400, server=100), over=history(0.2, since=minutes(5)))
    assert isinstance(decide(situation(at, policy=milder)), Healthy)


def test_a_spike_of_4xx_is_shown_with_its_paths_and_opens_nothing() -> None:
    found = situation(served(answers(250, client=250))).diagnosis
    assert isinstance(found, NotDetected)
    assert (found.reason, found.is_told) == ("ClientErrors", True)
    assert "50.00% are 4xx" in found.message
    assert "/api/v1/query/{project} 422: 250" in found.message


def test_the_evidence_tells_apart_who_is_to_blame_and_which_revision() -> None:
    found = situation(bad_release()).diagnosis
    assert isinstance(found, Detected)
    told = [item.value for item in found.evidence]
    assert told == [
        "5xx 20.00% of 500: /api/v1/query/{project} 500: 100",
        "4xx 0.00%: ",
        "5xx 20.00% of 500 on revision 7c9f",
    ]


def test_an_idle_service_is_not_said_to_be_mended() -> None:
    idle = served(answers(0), over=history(0.2, since=minutes(20)))
    assert not isinstance(
        decide(situation(idle, incident=incident(opened_at=NOW - minutes(40), healthy_since=NOW - minutes(30)))),
        Resolve,
    )


def test_a_service_without_an_error_in_half_an_hour_is() -> None:
    quiet = served(answers(0), over=history(0.0, requests=0))
    assert isinstance(
        decide(situation(quiet, incident=incident(opened_at=NOW - minutes(40), healthy_since=NOW - minutes(30)))),
        Resolve,
    )


def test_a_quiet_service_whose_last_answers_were_errors_is_not() -> None:
    quiet = served(answers(0), over=history(0.5, since=minutes(31), requests=20))
    assert not isinstance(
        decide(situation(quiet, incident=incident(opened_at=NOW - minutes(40), healthy_since=NOW - minutes(30)))),
        Resolve,
    )


def test_pods_that_have_just_come_have_no_history() -> None:
    none_yet = unknown("http_requests_total", "NoSeries")
    young = served(over={ANSWER_HISTORY: none_yet, SERVER_ERROR_HISTORY: none_yet})
    assert isinstance(decide(situation(young)), Healthy)
    silent = served(over={ANSWER_HISTORY: unknown("answers")})
    assert isinstance(decide(situation(silent)), Uncertain)


# 4A


def test_a_bad_release_is_taken_back() -> None:
    decision = decide(situation(bad_release(), incident=incident()))
    assert isinstance(decision, Begin)
    action, inverse = decision.attempt.action, decision.attempt.inverse
    assert isinstance(action, SetFields)
    assert isinstance(inverse, SetFields)
    assert action.values == {IMAGE: OLD_IMAGE, POD_TEMPLATE: {}}
    assert inverse.dropped == (IMAGE, POD_TEMPLATE)
    assert [name for name, _ in decision.passed_over] == ["4B ReportClientErrors", "4C AwaitDownstream"]


def test_the_pod_template_goes_back_too_when_it_has_changed() -> None:
    before = PodTemplate.model_validate({"env": [{"name": "FLAG", "value": "off"}]})
    healthy = healthy_revision(pod_template=before.canonical, pod_template_digest=before.digest)
    found = roll_back(bad_release(last_healthy=healthy), DETECTED, Journal(), LIMITS)
    assert isinstance(found, Applicable)
    assert isinstance(found.action, SetFields)
    values = found.action.values
    assert values[IMAGE] == OLD_IMAGE
    assert PodTemplate.model_validate(values[POD_TEMPLATE]) == before


def test_a_change_of_our_own_is_taken_back_first() -> None:
    changed = {"service.resources.limits.memory": overlay("3Gi", runbook="MemoryPressure")}
    found = roll_back(bad_release(overlays=Overlays(fields=changed)), DETECTED, Journal(), LIMITS)
    assert isinstance(found, Applicable)
    assert isinstance(found.action, SetFields)
    assert (found.action.fields, found.action.dropped) == ({}, tuple(changed))
    assert isinstance(found.inverse, SetFields)
    assert found.inverse.values == {"service.resources.limits.memory": "3Gi"}


def test_a_change_of_our_own_that_is_older_is_not_blamed() -> None:
    changed = {"service.resources.limits.memory": overlay("3Gi", runbook="MemoryPressure", ago=timedelta(hours=2))}
    found = roll_back(bad_release(overlays=Overlays(fields=changed)), DETECTED, Journal(), LIMITS)
    assert isinstance(found, Applicable)
    assert isinstance(found.action, SetFields)
    assert IMAGE in found.action.values


OLD_POD = service_pod(PODS[1], revision=OLD, image=OLD_IMAGE, age=timedelta(days=1))
TWO_REVISIONS = Known((service_pod(PODS[0], age=minutes(6)), OLD_POD), NOW)
ON_BOTH = (*answers(200, server=50, pods=PODS[:1]), *answers(200, server=50, pods=PODS[1:]))
ON_NEW = (*answers(150, server=100, pods=PODS[:1]), *answers(250, server=1, pods=PODS[1:]))
FAILED = rollback(finished=NOW - minutes(5), outcome=Outcome.UNDONE, message="No better.")
WITH_SECRET = Spec.model_validate({"service": {"apiKeysSecretRef": {"name": "keys"}}})
LONG = healthy_revision(pod_template="", pod_template_digest="other")
SAME_CONTENT = Known(tuple(service_pod(name, image=OLD_IMAGE, age=minutes(6)) for name in PODS), NOW)

REFUSED: dict[str, tuple[Facts, Journal, str]] = {
    "no_revision_is_known_to_be_good": (bad_release(last_healthy=None), Journal(), "PreviousRevisionUnknown"),
    "the_revision_itself_was_healthy": (
        bad_release(last_healthy=healthy_revision(revision="7c9f", image=NEW_IMAGE)), Journal(), "NotARelease",
    ),
    "neither_image_nor_template_changed": (bad_release(service_pods=SAME_CONTENT), Journal(), "NothingToRollBack"),
    "it_was_rolled_back_already": (
        bad_release(overlays=Overlays(fields={IMAGE: overlay(OLD_IMAGE)})), Journal(), "AlreadyRolledBack",
    ),
    "the_errors_began_long_after_the_release": (
        bad_release(rolled_out_at=NOW - minutes(40)), Journal(), "NotSinceRelease",
    ),
    "old_pods_fail_as_well": (
        bad_release(service_pods=TWO_REVISIONS, over={ANSWERS: Known(ON_BOTH, NOW)}), Journal(), "ErrorsOnOldPods",
    ),
    "the_previous_revision_was_no_better": (bad_release(), Journal(attempts=(FAILED,)), "PreviousRevisionBad"),
    "the_schema_has_changed": (bad_release(over={BUILD: Known(builds("8"), NOW)}), Journal(), "SchemaChanged"),
    "the_model_has_changed": (bad_release(over={BUILD: Known(builds(model="m2"), NOW)}), Journal(), "ModelChanged"),
    "another_secret_is_named": (bad_release(spec=WITH_SECRET), Journal(), "SecretChanged"),
    "the_keys_cannot_be_used": (
        bad_release(over={KEY_ERRORS: Known((Row({"pod": PODS[0]}, 2, NOW),), NOW)}), Journal(), "SecretUnreadable",
    ),
    "the_template_is_too_long": (bad_release(last_healthy=LONG), Journal(), "PodTemplateTooLarge"),
}  # fmt: skip


@pytest.mark.parametrize(("at", "journal", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_when_nothing_is_rolled_back(at: Facts, journal: Journal, reason: str) -> None:
    found = roll_back(at, DETECTED, journal, LIMITS)
    assert isinstance(found, NotApplicable)
    assert found.reason == reason


@pytest.mark.parametrize(("at", "journal", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_rolled_back_is_for_a_person(at: Facts, journal: Journal, reason: str) -> None:
    decision = decide(situation(at, incident=incident(), journal=journal))
    assert isinstance(decision, Escalate)
    assert decision.escalation.reason == "NoOptionApplicable"
    assert "No rollback (4A)" in decision.escalation.next_step


def test_old_pods_that_serve_well_beside_the_new_ones_do_not_protect_a_bad_release() -> None:
    at = bad_release(service_pods=TWO_REVISIONS, over={ANSWERS: Known(ON_NEW, NOW)})
    assert isinstance(roll_back(at, DETECTED, Journal(), LIMITS), Applicable)


def test_a_rollback_that_helped_before_can_be_made_again() -> None:
    helped = rollback(finished=NOW - minutes(5), outcome=Outcome.SUCCESSFUL)
    assert isinstance(roll_back(bad_release(), DETECTED, Journal(attempts=(helped,)), LIMITS), Applicable)


def test_nobody_is_called_while_the_ratio_still_counts_what_was_before_a_rollback_that_helped() -> None:
    at = bad_release(overlays=Overlays(fields={IMAGE: overlay(OLD_IMAGE, attempt=f"{NAME}-1")}))
    lately = rollback(finished=NOW - LIMITS.window / 2, outcome=Outcome.SUCCESSFUL)
    found = roll_back(at, DETECTED, Journal(attempts=(lately,)), LIMITS)
    assert isinstance(found, Pause)
    assert found.wait == LIMITS.window / 2
    before = rollback(finished=NOW - LIMITS.window, outcome=Outcome.SUCCESSFUL)
    assert isinstance(roll_back(at, DETECTED, Journal(attempts=(before,)), LIMITS), NotApplicable)


def test_a_revision_that_has_proved_itself_since_is_no_longer_held_to_be_bad() -> None:
    at = bad_release(last_healthy=healthy_revision(recorded_at=NOW - minutes(1)))
    assert isinstance(roll_back(at, DETECTED, Journal(attempts=(FAILED,)), LIMITS), Applicable)


@pytest.mark.parametrize("missing", [ANSWERS, BUILD])
def test_what_is_not_known_is_waited_for(missing: str) -> None:
    found = roll_back(bad_release(over={missing: unknown(missing)}), DETECTED, Journal(), LIMITS)
    assert isinstance(found, Pause)


def test_it_waits_while_its_cause_is_open() -> None:
    chroma = incident(name="demo-chroma-unreachable-0001", runbook="ChromaUnreachable", severity=Severity.P0)
    decision = decide(situation(bad_release(), incident=incident(), others=[chroma]))
    assert said(decision) == "ExplainedByCause"


def test_a_bad_canary_is_taken_back_before_it_is_everywhere() -> None:
    rolling = OwnWork("Rollout", "service", "x", NOW - minutes(1))
    bad_canary = bad_release(service_pods=TWO_REVISIONS, over={ANSWERS: Known(ON_NEW, NOW)}, own_work=(rolling,))
    assert isinstance(decide(situation(bad_canary)), Open)
    assert said(decide(situation(bad_canary, incident=incident()))) == "RollBack"


def test_a_rollout_whose_old_pods_fail_too_is_waited_for() -> None:
    both = bad_release(service_pods=TWO_REVISIONS, over={ANSWERS: Known(ON_BOTH, NOW)}, own_work=(ROLLING,))
    assert said(decide(situation(both))) == "OwnWork"


def test_a_restart_is_waited_for_also_by_a_rollback() -> None:
    restarting = bad_release(own_work=(OwnWork("Restart", "service", "x", NOW - minutes(1)),))
    assert said(decide(situation(restarting, incident=incident()))) == "OwnWork"


# 4D


def considered(at: Facts, *attempts: Attempt) -> str:
    found = check_database(at, DETECTED, Journal(attempts=attempts), LIMITS)
    return "Applicable" if isinstance(found, Applicable) else found.reason


CHECKED = Attempt(
    id="demo-database-corruption-0001-1",
    option="CheckIntegrity",
    action=RunTask(target=served().itself, task="check"),
    claimed_by="operator-a",
    started=NOW - minutes(20),
    report=TaskReport(ok=True),
)


def test_errors_of_the_database_ask_for_a_check_once_an_hour() -> None:
    broken = bad_release(over={DATABASE_TROUBLE: Known(database_errors(io=3, busy=1), NOW)})
    assert considered(broken) == "Applicable"
    assert considered(broken, CHECKED) == "Checked"
    busy = bad_release(over={DATABASE_TROUBLE: Known(database_errors(busy=30, full=2), NOW)})
    assert considered(busy) == "NoDatabaseErrors"
    assert considered(bad_release()) == "NoDatabaseErrors"
    assert said(decide(situation(broken, incident=incident()))) == "CheckDatabase"


# Verify


def rolled_back(at: Facts, *, image: str = OLD_IMAGE, age: timedelta = SHORTLY) -> Facts:
    pods = tuple(service_pod(name, revision=OLD, image=image, age=age) for name in PODS)
    return bad_release(service_pods=Known(pods, NOW), rows_by_name=at.rows_by_name)


LATE = rollback(started=NOW - minutes(20), acted=NOW - minutes(20))

JUDGED: dict[str, tuple[Facts, Attempt, type, str]] = {
    "errors_are_gone": (rolled_back(served()), rollback(), Conclude, "Successful"),
    "survivors_of_the_old_revision_count": (
        rolled_back(served(), age=timedelta(days=1)), rollback(), Conclude, "Successful",
    ),
    "bad_pods_are_still_there": (
        rolled_back(served(), image=NEW_IMAGE, age=minutes(30)), rollback(), Wait, "Verifying",
    ),
    "too_few_answers_to_tell": (rolled_back(served(answers(20))), rollback(), Wait, "Verifying"),
    "too_few_answers_to_the_end": (rolled_back(served(answers(20))), LATE, Conclude, "Inconclusive"),
    "errors_go_on": (rolled_back(served(answers(400, server=100))), rollback(), Wait, "Verifying"),
    "errors_go_on_to_the_end": (rolled_back(served(answers(400, server=100))), LATE, Revert, ""),
    "worse_than_before": (rolled_back(served(answers(100, server=400))), LATE, Revert, ""),
    "still_rolling_out": (
        bad_release(
            service_pods=rolled_back(served()).service_pods, rows_by_name=served().rows_by_name, own_work=(ROLLING,)
        ),
        rollback(), Wait, "Verifying",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("at", "attempt", "expected", "outcome"), JUDGED.values(), ids=JUDGED.keys())
def test_how_a_rollback_is_judged(at: Facts, attempt: Attempt, expected: type, outcome: str) -> None:
    decision = decide(situation(at, incident=incident(attempt)))
    assert (type(decision), said(decision)) == (expected, outcome)


# Escalate

UNDONE = rollback(finished=NOW - minutes(1), outcome=Outcome.UNDONE, message="100 of 500 answers are 5xx.")

ESCALATED: dict[str, tuple[Facts, IncidentRecord, str]] = {
    "many_for_ten_minutes": (bad_release(over=history(0.2, since=minutes(10))), incident(), "ManyErrors"),
    "some_for_half_an_hour": (bad_release(over=history(0.02)), incident(), "PersistentErrors"),
    "a_rollback_did_not_help": (bad_release(), incident(UNDONE), "RollbackDidNotHelp"),
    "several_components_are_down": (
        bad_release(over={COMPONENTS: Known(components("chromadb", "database"), NOW)}), incident(),
        "SeveralComponentsDown",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("at", "record", "reason"), ESCALATED.values(), ids=ESCALATED.keys())
def test_when_a_person_is_called(at: Facts, record: IncidentRecord, reason: str) -> None:
    assert said(decide(situation(at, incident=record))) == reason


def test_a_spike_of_five_minutes_calls_nobody() -> None:
    assert RUNBOOK.escalate(bad_release(), incident(), LIMITS) is None


def test_a_single_component_is_its_own_incidents_matter() -> None:
    one = bad_release(over={COMPONENTS: Known(components("chromadb"), NOW)})
    assert RUNBOOK.escalate(one, incident(), LIMITS) is None


def test_dry_run_writes_down_what_it_would_do() -> None:
    decision = decide(situation(bad_release(), incident=incident(), policy=policy(mode="DryRun")))
    assert isinstance(decision, Conclude)
    assert decision.attempt.outcome is Outcome.DRY_RUN
    assert json.dumps(OLD_IMAGE) in decision.attempt.message


# Where few ask, probes decide.


def unanswered(bad_for: timedelta, *, ok: float = 10, server: float = 0, **over: object) -> Facts:
    made = served(answers(ok, server=server), **over)  # type: ignore[arg-type]
    return replace(made, series_by_name=probed(bad_for=bad_for, is_answered=False, took=5.0))


def test_three_unanswered_probes_in_a_row_open_an_incident_where_few_ask() -> None:
    decision = decide(situation(unanswered(seconds(30))))
    assert isinstance(decision, Open)
    assert decision.reason == "ProbesFail"
    assert isinstance(decide(situation(unanswered(seconds(20)))), Healthy)


def test_where_enough_are_answered_probes_do_not_count() -> None:
    assert isinstance(decide(situation(unanswered(minutes(2), ok=500))), Healthy)


def test_nothing_is_rolled_back_for_probes_and_a_person_is_called_with_a_next_step() -> None:
    released = bad_release(rolled_out_at=NOW - minutes(2))
    quiet = replace(unanswered(minutes(1)), rolled_out_at=released.rolled_out_at, last_healthy=released.last_healthy)
    decision = decide(situation(quiet, incident=incident()))
    assert isinstance(decision, Escalate)
    assert decision.escalation.reason == "NoOptionApplicable"
    assert "kubectl get endpointslices -n ns" in decision.escalation.next_step


def test_it_is_over_when_probes_have_been_answered_for_the_healthy_period() -> None:
    opened = incident(opened_at=NOW - minutes(9), detected_at=NOW - minutes(9))
    good = unanswered(seconds(0))
    assert isinstance(decide(situation(good, incident=opened)), Resolve)
    answered = {name: one for name, one in good.series_by_name.items() if name != PROBE_SUCCESS}
    success = per_pod(series(lambda at: float(at >= NOW - minutes(1))))
    recovered = replace(good, series_by_name={**answered, PROBE_SUCCESS: success})
    assert isinstance(decide(situation(recovered, incident=opened)), Wait)
