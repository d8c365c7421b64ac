"""Incident 2 as tables: each row is a healthy snapshot with one change, named by the sentence that it shows."""

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TypeAlias

import pytest

from kb_facts import (
    A_MINUTE,
    CLOSED,
    HALF_OPEN,
    NOW,
    OPEN,
    SCRAPE,
    attempt,
    changing,
    chroma,
    container,
    error_ratio,
    facts,
    failed,
    incident,
    minutes,
    no_nodes,
    nodes,
    nothing_scraped,
    per_pod,
    pod,
    restart,
    seconds,
    series,
    unknown,
    waiting,
)
from knowledgebeast_operator.core.actions import PutFields, RunTask, SetFields, Target
from knowledgebeast_operator.core.facts import Facts, Known, PerPod, Pod, Row, Sample, Unknown, Volume
from knowledgebeast_operator.core.ledger import Attempt, IncidentRecord, Journal, Outcome, TaskReport
from knowledgebeast_operator.core.network import Difference, Network
from knowledgebeast_operator.core.overlays import FieldOverlay, Overlays
from knowledgebeast_operator.core.policy import Policy
from knowledgebeast_operator.core.runbook import (
    Applicable,
    Detected,
    Effect,
    NotApplicable,
    NotDetected,
    Pause,
    Undetermined,
)
from knowledgebeast_operator.custom_resource import Spec
from knowledgebeast_operator.runbooks.chroma_unreachable import RUNBOOK

Changes: TypeAlias = Mapping[str, object]

LIMITS = Policy().limits(RUNBOOK, SCRAPE)
RESTART, REPAIR, REBUILD, RAISE = RUNBOOK.options


def one_pod_each(a: float, b: float, *, since: timedelta = A_MINUTE) -> Known[PerPod]:
    return Known({"demo-a": changing(CLOSED, a, since=since), "demo-b": changing(CLOSED, b, since=since)}, NOW)


GOOD = {
    "every_signal_is_good": facts(),
    "one_canary_of_twenty_may_miss": facts(canary_success_ratio=per_pod(series(0.95))),
    "pods_that_are_not_ready_are_not_asked": facts(
        service_pods=Known((pod("demo-a"), pod("demo-new", is_ready=False)), NOW)
    ),
    "a_young_pod_without_samples_is_left_out": facts(
        service_pods=Known((pod("demo-a"), pod("demo-new", container=container(started_at=NOW - seconds(5)))), NOW)
    ),
    "a_heartbeat_failing_for_a_moment_is_not_asked": facts(chroma_pods=chroma(pod(is_ready=False))),
}


@pytest.mark.parametrize("at", GOOD.values(), ids=GOOD.keys())
def test_not_detected(at: Facts) -> None:
    assert isinstance(RUNBOOK.diagnose(at, LIMITS), NotDetected)


def test_good_is_held_for_as_long_as_the_samples_reach_back() -> None:
    diagnosis = RUNBOOK.diagnose(facts(), LIMITS)
    assert isinstance(diagnosis, NotDetected)
    assert diagnosis.held == minutes(2)


DETECTED = {
    "an_open_breaker_and_failing_canaries": (facts(chroma_up=False), minutes(1)),
    "an_open_breaker_before_the_next_canary_round": (
        facts(
            breaker_state=per_pod(changing(CLOSED, OPEN, since=seconds(30))),
            canary_timestamp=per_pod(series(NOW.timestamp() - 31)),
        ),
        seconds(30),
    ),
    "a_breaker_that_is_half_open_while_it_probes_is_not_closed": (
        facts(chroma_up=False, breaker_state=per_pod(series(lambda at: HALF_OPEN if at.second % 20 else OPEN))),
        minutes(2),
    ),
    "failing_canaries_behind_a_closed_breaker": (
        facts(canary_success_ratio=per_pod(changing(1.0, 0.9, since=minutes(1)))),
        minutes(1),
    ),
    "an_open_breaker_and_canaries_that_have_stopped": (
        facts(chroma_up=False, canary_timestamp=per_pod(series(NOW.timestamp() - 600))),
        minutes(1),
    ),
    "the_pod_that_noticed_last_counts": (
        facts(
            chroma_up=False,
            breaker_state=Known(
                {
                    "demo-a": changing(CLOSED, OPEN, since=minutes(1)),
                    "demo-b": changing(CLOSED, OPEN, since=seconds(20)),
                },
                NOW,
            ),
            canary_success_ratio=Known(
                {"demo-a": changing(1, 0, since=minutes(1)), "demo-b": changing(1, 0, since=seconds(10))}, NOW
            ),
        ),
        seconds(20),
    ),
    "samples_before_a_gap_do_not_count": (
        facts(
            chroma_up=False,
            breaker_state=per_pod(tuple(s for s in series(OPEN) if not seconds(20) < NOW - s.at < minutes(1))),
            canary_success_ratio=per_pod(series(0.0)[-3:]),
        ),
        seconds(20),
    ),
}


@pytest.mark.parametrize(("at", "held"), DETECTED.values(), ids=DETECTED.keys())
def test_detected(at: Facts, held: timedelta) -> None:
    diagnosis = RUNBOOK.diagnose(at, LIMITS)
    assert isinstance(diagnosis, Detected)
    assert diagnosis.held == held
    assert {evidence.signal for evidence in diagnosis.evidence} <= set(RUNBOOK.signals)


UNDETERMINED = {
    "prometheus_does_not_answer": (facts(breaker_state=unknown()), "PrometheusUnreachable"),
    "a_metric_was_renamed": (facts(chroma_up=False, canary_success_ratio=nothing_scraped()), "SeriesMissing"),
    "the_samples_are_older_than_three_scrapes": (
        facts(chroma_up=False, breaker_state=per_pod(series(OPEN, now=NOW - seconds(31)))),
        "SampleTooOld",
    ),
    "not_a_number": (
        facts(breaker_state=per_pod((*series(CLOSED)[:-1], Sample(NOW, math.nan)))),
        "NotANumber",
    ),
    "a_frozen_canary_loop_is_not_healthy": (
        facts(canary_timestamp=per_pod(series(NOW.timestamp() - 61))),
        "CanaryStopped",
    ),
    "a_canary_clock_far_ahead_is_not_healthy": (
        facts(canary_timestamp=per_pod(series(math.inf))),
        "CanaryStopped",
    ),
    "pods_that_disagree": (
        facts(
            breaker_state=one_pod_each(OPEN, CLOSED),
            canary_success_ratio=Known({"demo-a": changing(1.0, 0.0, since=minutes(1)), "demo-b": series(1.0)}, NOW),
        ),
        "SignalsDisagree",
    ),
    "an_open_breaker_with_canaries_that_succeed": (
        facts(breaker_state=per_pod(changing(CLOSED, OPEN, since=minutes(1)))),
        "SignalsDisagree",
    ),
    "no_service_pod_is_ready": (
        facts(chroma_up=False, service_pods=Known((pod("demo-a", is_ready=False),), NOW)),
        "NoReadyPod",
    ),
    "a_terminating_pod_is_not_asked": (
        facts(chroma_up=False, service_pods=Known((pod("demo-a", is_terminating=True),), NOW)),
        "NoReadyPod",
    ),
    "the_only_pod_is_too_young_to_be_heard": (
        facts(service_pods=Known((pod("demo-new", container=container(started_at=NOW - seconds(5))),), NOW)),
        "SeriesMissing",
    ),
    "one_pod_is_silent": (
        facts(chroma_up=False, service_pods=Known((pod("demo-a"), pod("demo-c")), NOW)),
        "SeriesMissing",
    ),
    "chromas_pods_cannot_be_listed": (facts(chroma_up=False, chroma_pods=unknown("pods")), "PrometheusUnreachable"),
    "the_nodes_cannot_be_listed": (facts(chroma_up=False, nodes=unknown("nodes")), "PrometheusUnreachable"),
}


@pytest.mark.parametrize(("at", "reason"), UNDETERMINED.values(), ids=UNDETERMINED.keys())
def test_unknown_is_not_down(at: Facts, reason: str) -> None:
    diagnosis = RUNBOOK.diagnose(at, LIMITS)
    assert isinstance(diagnosis, Undetermined)
    assert diagnosis.unknown[0].reason == reason


HUNG_SOON = pod(is_ready=False, has_lost_readiness=True, container=container(started_at=NOW - seconds(20)))

CAUSES: dict[str, tuple[Changes, str, str]] = {
    # what is seen of the cluster, reason, what is said (and whether 2A fits is in OPTIONS)
    "running_and_ready_for_long_with_an_open_breaker": ({}, "ChromaAnswersErrors", "is ready"),
    "running_and_ready_with_a_breaker_that_has_just_opened": ({"down_for": seconds(20)}, "ChromaHung", "is ready"),
    "running_and_no_longer_ready": ({"chroma_pods": chroma(pod(is_ready=False))}, "ChromaHung", "not ready"),
    "just_started_and_not_ready_yet": (
        {"chroma_pods": chroma(pod(is_ready=False, container=container(started_at=NOW - seconds(20))))},
        "ChromaNotReady",
        "started 20s ago",
    ),
    "ready_once_and_no_longer": ({"chroma_pods": chroma(HUNG_SOON)}, "ChromaHung", "has run for 20s"),
    "image_cannot_be_pulled": (
        {"chroma_pods": chroma(pod(is_ready=False, container=waiting("ImagePullBackOff", "manifest unknown")))},
        "ImageUnavailable",
        "manifest unknown",
    ),
    "image_name_is_invalid": (
        {"chroma_pods": chroma(pod(is_ready=False, container=waiting("InvalidImageName", "bad reference")))},
        "ImageUnavailable",
        "bad reference",
    ),
    "pod_cannot_be_scheduled": (
        {"chroma_pods": chroma(pod(node=None, container=None, unschedulable_message="0/1 nodes: no memory"))},
        "Unschedulable",
        "0/1 nodes: no memory",
    ),
    "node_is_not_ready": (
        {"nodes": nodes(is_ready=False, is_cordoned=False)},
        "NodeLost",
        "not ready",
    ),
    "node_is_silent": (
        {"nodes": nodes(is_ready=None, is_cordoned=False)},
        "NodeLost",
        "silent",
    ),
    "node_is_gone": ({"nodes": no_nodes()}, "NodeLost", "gone"),
    "node_is_cordoned": (
        {"nodes": nodes(is_ready=True, is_cordoned=True)},
        "NodeCordoned",
        "cordoned",
    ),
    "killed_for_memory_again_and_again": (
        {
            "chroma_pods": chroma(
                pod(
                    is_ready=False,
                    container=waiting(
                        "CrashLoopBackOff",
                        "back-off",
                        restart_count=2,
                        last_exit_reason="OOMKilled",
                        last_finished_at=NOW - seconds(30),
                    ),
                )
            )
        },
        "OutOfMemory",
        "OOMKilled",
    ),
    "crashes_at_its_start": (
        {
            "chroma_pods": chroma(
                pod(
                    is_ready=False,
                    container=waiting(
                        "CrashLoopBackOff", "back-off", restart_count=3, last_exit_code=1, last_exit_reason="Error"
                    ),
                )
            )
        },
        "CrashLooping",
        "exit code 1",
    ),
    "container_cannot_be_created": (
        {"chroma_pods": chroma(pod(is_ready=False, container=waiting("CreateContainerConfigError", "no secret x")))},
        "ContainerCannotStart",
        "no secret x",
    ),
    "the_kubelet_waits_before_it_restarts": (
        {
            "chroma_pods": chroma(
                pod(is_ready=False, container=waiting("CrashLoopBackOff", "back-off", restart_count=1))
            )
        },
        "ContainerRestarting",
        "not running",
    ),
    "no_pod": ({"chroma_pods": chroma(None)}, "PodMissing", "no pod"),
    "pod_is_being_deleted": ({"chroma_pods": chroma(pod(is_terminating=True))}, "PodTerminating", "being deleted"),
}


@pytest.mark.parametrize(("changes", "reason", "said"), CAUSES.values(), ids=CAUSES.keys())
def test_cause(changes: Changes, reason: str, said: str) -> None:
    diagnosis = RUNBOOK.diagnose(facts(chroma_up=False, **changes), LIMITS)  # type: ignore[arg-type]
    assert isinstance(diagnosis, Detected)
    assert diagnosis.reason == reason
    assert said in diagnosis.message


def test_failing_canaries_behind_a_closed_breaker_are_errors() -> None:
    diagnosis = RUNBOOK.diagnose(facts(canary_success_ratio=per_pod(changing(1.0, 0.0, since=seconds(10)))), LIMITS)
    assert isinstance(diagnosis, Detected)
    assert diagnosis.reason == "ChromaAnswersErrors"


OUTLASTS = {
    "ImageUnavailable",
    "Unschedulable",
    "NodeLost",
    "NodeCordoned",
    "OutOfMemory",
    "CrashLooping",
    "ContainerCannotStart",
}


@pytest.mark.parametrize(("changes", "reason", "_said"), CAUSES.values(), ids=CAUSES.keys())
def test_a_rollout_does_not_explain_what_only_a_human_changes(changes: Changes, reason: str, _said: str) -> None:
    diagnosis = RUNBOOK.diagnose(facts(chroma_up=False, **changes), LIMITS)  # type: ignore[arg-type]
    assert isinstance(diagnosis, Detected)
    assert diagnosis.outlasts_own_work == (reason in OUTLASTS)


OPTIONS: dict[str, tuple[Changes, type, str]] = {
    "hung_for_long": ({"chroma_pods": chroma(pod(is_ready=False))}, Applicable, "delete"),
    "answers_errors": ({}, Applicable, "delete"),
    "the_kubelet_has_just_restarted_it": (
        {"chroma_pods": chroma(pod(container=container(started_at=NOW - seconds(3), restart_count=1)))},
        Pause,
        "kubelet restarted Chroma 3s ago",
    ),
    "ready_and_older_than_the_settle_time": (
        {"chroma_pods": chroma(pod(container=container(started_at=NOW - seconds(17), restart_count=1)))},
        Applicable,
        "delete",
    ),
    "not_ready_and_still_starting": (
        {"chroma_pods": chroma(pod(is_ready=False, container=container(started_at=NOW - seconds(16))))},
        Pause,
        "started 16s ago",
    ),
    "hung_soon_after_it_was_ready": ({"chroma_pods": chroma(HUNG_SOON)}, Applicable, "delete"),
    "terminating": ({"chroma_pods": chroma(pod(is_terminating=True))}, Pause, "controller makes a new one"),
    "missing": ({"chroma_pods": chroma(None)}, Pause, "controller makes a new one"),
    "being_created": (
        {"chroma_pods": chroma(pod(is_ready=False, container=waiting("ContainerCreating", "")))},
        Pause,
        "kubelet starts it",
    ),
    "image": (
        {"chroma_pods": chroma(pod(is_ready=False, container=waiting("ErrImagePull", "403 Forbidden")))},
        NotApplicable,
        "Fix the image name localhost/knowledgebeast-service:dev or the pull secret; the kubelet says: 403 Forbidden",
    ),
    "scheduling": (
        {"chroma_pods": chroma(pod(node=None, container=None, unschedulable_message="no memory"))},
        NotApplicable,
        "scheduler says: no memory",
    ),
    "node_lost": ({"nodes": no_nodes()}, NotApplicable, "Bring node node-1 back"),
    "memory": (
        {
            "chroma_pods": chroma(
                pod(container=container(restart_count=3, last_exit_reason="OOMKilled", last_finished_at=NOW))
            )
        },
        NotApplicable,
        "Raise spec.chroma.resources.limits.memory",
    ),
}


@pytest.mark.parametrize(("changes", "kind", "said"), OPTIONS.values(), ids=OPTIONS.keys())
def test_restart_is_chosen_only_where_it_can_help(changes: Changes, kind: type, said: str) -> None:
    at = facts(chroma_up=False, **changes)  # type: ignore[arg-type]
    diagnosis = RUNBOOK.diagnose(at, LIMITS)
    assert isinstance(diagnosis, Detected)
    answer = RESTART.consider(at, diagnosis, Journal(), LIMITS)
    assert isinstance(answer, kind)
    if isinstance(answer, Applicable):
        assert answer.action == restart()
    else:
        assert said in answer.message


def test_out_of_memory_long_ago_does_not_forbid_a_restart() -> None:
    old = container(restart_count=5, last_exit_reason="OOMKilled", last_finished_at=NOW - timedelta(hours=3))
    at = facts(chroma_up=False, chroma_pods=chroma(pod(container=old)))
    diagnosis = RUNBOOK.diagnose(at, LIMITS)
    assert isinstance(diagnosis, Detected)
    assert isinstance(RESTART.consider(at, diagnosis, Journal(), LIMITS), Applicable)


def test_the_pod_that_stays_is_looked_at_while_one_is_replaced() -> None:
    old, new = pod(is_terminating=True), pod(uid="uid-new", is_ready=False, container=waiting("ErrImagePull", "no"))
    diagnosis = RUNBOOK.diagnose(facts(chroma_up=False, chroma_pods=Known((old, new), NOW)), LIMITS)
    assert isinstance(diagnosis, Detected)
    assert diagnosis.reason == "ImageUnavailable"


NEW: dict[str, object] = {"chroma_pods": chroma(pod(uid="uid-chroma-2"))}
ACTED = attempt(acted=NOW - minutes(1), before=(error_ratio(0.0),))
LATE = attempt(acted=NOW - minutes(10), before=(error_ratio(0.0),))
VERDICTS: dict[str, tuple[Changes, Attempt, Effect]] = {
    "recovered": (NEW, ACTED, Effect.BETTER),
    "recovered_without_any_request": (
        NEW | {"error_ratio": Unknown("http_requests_total", "Idle", "No requests.")}, ACTED, Effect.BETTER,
    ),
    "the_old_pod_is_still_there": ({}, ACTED, Effect.PENDING),
    "the_old_pod_is_still_there_at_the_end": ({}, LATE, Effect.NO_CHANGE),
    "the_new_pod_is_not_ready": ({"chroma_pods": chroma(pod(uid="new", is_ready=False))}, ACTED, Effect.PENDING),
    "canaries_still_fail": (NEW | {"canary_success_ratio": per_pod(series(0.0))}, ACTED, Effect.PENDING),
    "canaries_still_fail_at_the_end": (NEW | {"canary_success_ratio": per_pod(series(0.0))}, LATE, Effect.NO_CHANGE),
    "the_last_canary_round_was_before_the_restart": (
        NEW | {"canary_timestamp": per_pod(series(NOW.timestamp() - 60))}, ACTED, Effect.PENDING,
    ),
    "only_two_samples_are_good": (
        NEW | {"canary_success_ratio": per_pod(changing(0.0, 1.0, since=seconds(10)))}, ACTED, Effect.PENDING,
    ),
    "three_samples_are_good": (
        NEW | {"canary_success_ratio": per_pod(changing(0.0, 1.0, since=seconds(20)))}, ACTED, Effect.BETTER,
    ),
    "samples_from_before_the_restart_do_not_count": (NEW, attempt(acted=NOW - seconds(15)), Effect.PENDING),
    "still_degraded": (NEW | {"degraded_mode": per_pod(series(1.0))}, ACTED, Effect.PENDING),
    "the_breaker_probes": (
        NEW | {"breaker_state": per_pod((*series(CLOSED)[:-1], Sample(NOW, HALF_OPEN)))}, ACTED, Effect.PENDING,
    ),
    "more_answers_fail_than_before": (NEW | {"error_ratio": Known(0.2, NOW)}, ACTED, Effect.PENDING),
    "more_answers_fail_than_before_at_the_end": (NEW | {"error_ratio": Known(0.2, NOW)}, LATE, Effect.WORSE),
    "a_change_below_the_noise_is_none": (NEW | {"error_ratio": Known(0.009, NOW)}, ACTED, Effect.BETTER),
    "a_signal_is_missing": (NEW | {"canary_success_ratio": unknown()}, ACTED, Effect.UNKNOWN),
    "degraded_mode_is_missing": (NEW | {"degraded_mode": unknown()}, ACTED, Effect.UNKNOWN),
    "the_error_ratio_is_missing": (NEW | {"error_ratio": unknown()}, ACTED, Effect.UNKNOWN),
    "the_pods_cannot_be_listed": ({"chroma_pods": unknown("pods")}, ACTED, Effect.UNKNOWN),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "made", "effect"), VERDICTS.values(), ids=VERDICTS.keys())
def test_verdict(changes: Changes, made: Attempt, effect: Effect) -> None:
    assert RESTART.verify(facts(**changes), made, LIMITS).effect is effect  # type: ignore[arg-type]


def test_indicators_are_the_worst_of_all_service_pods() -> None:
    at = facts(breaker_state=one_pod_each(OPEN, OPEN), canary_success_ratio=per_pod(series(0.4)))
    values = {sli.name: sli.value for sli in RUNBOOK.slis(at)}
    assert values == {"chroma_available": 0.4, "breaker_state": 2.0, "error_ratio": 0.0}


def test_indicators_that_are_unknown_are_left_out() -> None:
    assert RUNBOOK.slis(facts(breaker_state=unknown(), error_ratio=unknown())) == ()


ESCALATIONS = {
    "not_before_fifteen_minutes": (facts(chroma_up=False), incident(detected_at=NOW - minutes(15)), None),
    "down_for_more_than_fifteen_minutes": (
        facts(chroma_up=False), incident(detected_at=NOW - minutes(15) - seconds(1)), "DownTooLong",
    ),
    "keyword_search_fails_too": (
        facts(chroma_up=False, error_ratio=Known(0.06, NOW)), incident(), "KeywordSearchFailing",
    ),
    "a_few_errors_are_no_failing_fallback": (facts(chroma_up=False, error_ratio=Known(0.05, NOW)), incident(), None),
    "canaries_fail_on_a_restarted_chroma_whose_heartbeat_answers": (
        facts(chroma_up=False), incident(failed()), "IntegrityInDoubt",
    ),
    "canaries_fail_and_nothing_was_tried": (facts(chroma_up=False), incident(), None),
    "a_restarted_chroma_without_heartbeat_says_nothing_about_the_index": (
        facts(chroma_up=False, chroma_pods=chroma(pod(is_ready=False))), incident(failed()), None,
    ),
    "the_readiness_probe_has_not_had_time_to_notice": (
        facts(chroma_up=False, down_for=seconds(20)), incident(failed()), None,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("at", "record", "reason"), ESCALATIONS.values(), ids=ESCALATIONS.keys())
def test_escalation(at: Facts, record: IncidentRecord, reason: str | None) -> None:
    escalation = RUNBOOK.escalate(at, record, LIMITS)  # type: ignore[arg-type]
    assert (escalation.reason if escalation else None) == reason
    assert escalation is None or escalation.next_step


def just_started(ago: timedelta) -> Known[tuple[Pod, ...]]:
    return chroma(pod(container=container(started_at=NOW - ago)))


ASKED: dict[str, tuple[timedelta, timedelta, bool]] = {
    # how long ago Chroma started, how long ago the last canary round ended, is it known to be bad
    "the_last_round_asked_its_predecessor": (seconds(40), seconds(45), False),
    "the_last_round_came_while_it_was_starting": (seconds(40), seconds(30), False),
    "the_last_round_asked_it_after_its_start": (seconds(40), seconds(20), True),
    "nobody_has_asked_for_two_minutes": (seconds(140), seconds(150), True),
}


@pytest.mark.parametrize(("started", "asked", "is_known"), ASKED.values(), ids=ASKED.keys())
def test_a_chroma_is_not_restarted_for_the_silence_of_its_predecessor(
    started: timedelta, asked: timedelta, is_known: bool
) -> None:
    last_round = per_pod(series((NOW - asked).timestamp()))
    at = facts(chroma_up=False, canary_timestamp=last_round, chroma_pods=just_started(started))
    diagnosis = RUNBOOK.diagnose(at, LIMITS)
    assert isinstance(diagnosis, Detected)
    assert diagnosis.held == (minutes(1) if is_known else seconds(0))
    answer = RESTART.consider(at, diagnosis, Journal(), LIMITS)
    assert isinstance(answer, Applicable if is_known else Pause)


def test_the_hold_is_not_judged_here() -> None:
    """A signal that is bad for a moment is detected with a short hold; `decide` waits."""
    diagnosis = RUNBOOK.diagnose(facts(chroma_up=False, down_for=seconds(0)), LIMITS)
    assert isinstance(diagnosis, Detected)
    assert diagnosis.held == seconds(0)


def test_every_pod_is_asked() -> None:
    three = tuple(pod(f"demo-{letter}") for letter in "abc")
    at = facts(chroma_up=False, service_pods=Known(three, NOW))
    both = {name: changing(CLOSED, OPEN, since=minutes(1)) for name in ("demo-a", "demo-b")}
    at = replace(at, breaker_state=Known(both, NOW))
    assert isinstance(RUNBOOK.diagnose(at, LIMITS), Undetermined)


SERVICE = Target(kind="Service", name="demo-chroma", uid="uid-service")
CHANGED = Difference(
    SERVICE,
    '{"spec": {"selector": {"app": null}}}',
    '{"spec": {"selector": {"app": "old"}}}',
    "Service demo-chroma was changed by kubectl-edit: spec.selector is one instead of another.",
)
PUT = PutFields(target=SERVICE, patch=CHANGED.patch)
REPAIRED = attempt(option="RepairNetwork", action=PUT, acted=NOW - minutes(1), before=(error_ratio(0.0),))
REPAIRED_LONG_AGO = attempt(option="RepairNetwork", action=PUT, acted=NOW - minutes(10), before=(error_ratio(0.0),))


def network(*differences: Difference, endpoints: int = 1) -> Known[Network]:
    return Known(Network(differences, endpoints), NOW)


def tried(outcome: Outcome) -> Journal:
    ended = REPAIRED_LONG_AGO.model_copy(update={"finished": NOW - minutes(5), "outcome": outcome})
    return Journal(attempts=(ended,))


NOT_READY = chroma(pod(is_ready=False))
CHOICES: dict[str, tuple[Changes, Journal, str, str]] = {
    # what is seen, what was tried, which option fits, what the other one says
    "a_changed_service_behind_a_ready_pod": ({"network": network(CHANGED)}, Journal(), "2B", "changed by kubectl-edit"),
    "nothing_was_changed": ({"network": network()}, Journal(), "2A", "policies are as they should be"),
    "nobody_is_behind_the_service_because_the_pod_is_not_ready": (
        {"network": network(endpoints=0), "chroma_pods": NOT_READY}, Journal(), "2A", "its pod is not ready",
    ),
    "a_changed_service_of_a_pod_that_is_not_ready": (
        {"network": network(CHANGED), "chroma_pods": NOT_READY}, Journal(), "2A", "its pod is not ready",
    ),
    "the_cluster_puts_no_address_behind_the_service": (
        {"network": network(endpoints=0)}, Journal(), "2A", "kube-controller-manager",
    ),
    "the_network_cannot_be_read": ({"network": unknown("network")}, Journal(), "2A", "network"),
    "nobody_has_asked_for_the_network": ({}, Journal(), "2A", "Nobody has asked"),
    "it_was_put_right_and_changed_again": (
        {"network": network(CHANGED)}, tried(Outcome.SUCCESSFUL), "2B", "A restart of Chroma does not help",
    ),
    "it_was_put_right_in_vain": ({"network": network(CHANGED)}, tried(Outcome.UNDONE), "2A 2B", ""),
    "no_image": (
        {"chroma_pods": chroma(pod(is_ready=False, container=waiting("ErrImagePull", "403"))), "network": network()},
        Journal(), "", "its pod is not ready",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "journal", "fits", "said"), CHOICES.values(), ids=CHOICES.keys())
def test_the_network_or_the_pod(changes: Changes, journal: Journal, fits: str, said: str) -> None:
    at = facts(chroma_up=False, **changes)  # type: ignore[arg-type]
    diagnosis = RUNBOOK.diagnose(at, LIMITS)
    assert isinstance(diagnosis, Detected)
    answers = {option.code: option.consider(at, diagnosis, journal, LIMITS) for option in (RESTART, REPAIR)}
    fitting = {code for code, answer in answers.items() if isinstance(answer, Applicable)}
    assert fitting == set(fits.split())
    refusals = [answer.message for answer in answers.values() if isinstance(answer, NotApplicable)]
    assert any(said in message for message in refusals) or not said


def test_what_was_there_can_be_put_back() -> None:
    at = facts(chroma_up=False, network=network(CHANGED))
    diagnosis = RUNBOOK.diagnose(at, LIMITS)
    assert isinstance(diagnosis, Detected)
    answer = REPAIR.consider(at, diagnosis, Journal(), LIMITS)
    assert isinstance(answer, Applicable)
    assert answer.action == PUT
    assert answer.inverse == PutFields(target=SERVICE, patch=CHANGED.inverse)


def test_people_are_told_of_policies_that_are_not_ours() -> None:
    """Whether a restart or a look at the network has not helped: nobody else may touch them."""
    told = "lockdown (made by security)"
    at = facts(chroma_up=False, network=Known(Network((), 1, (told,)), NOW))
    diagnosis = RUNBOOK.diagnose(at, LIMITS)
    assert isinstance(diagnosis, Detected)
    refusal = REPAIR.consider(at, diagnosis, Journal(), LIMITS)
    assert isinstance(refusal, NotApplicable)
    assert told in refusal.message
    escalation = RUNBOOK.escalate(at, incident(failed()), LIMITS)
    assert escalation is not None
    assert told in escalation.next_step


NETWORK_VERDICTS: dict[str, tuple[Changes, Attempt, Effect]] = {
    "recovered": ({"network": network()}, REPAIRED, Effect.BETTER),
    "the_fields_are_still_wrong": ({"network": network(CHANGED)}, REPAIRED, Effect.PENDING),
    "the_fields_are_still_wrong_at_the_end": ({"network": network(CHANGED)}, REPAIRED_LONG_AGO, Effect.NO_CHANGE),
    "another_object_is_wrong_and_chroma_answers": (
        {"network": network(replace(CHANGED, target=SERVICE.model_copy(update={"uid": "uid-other"})))},
        REPAIRED, Effect.BETTER,
    ),
    "nobody_is_behind_the_service_yet": ({"network": network(endpoints=0)}, REPAIRED, Effect.PENDING),
    "canaries_still_fail_at_the_end": (
        {"network": network(), "canary_success_ratio": per_pod(series(0.0))}, REPAIRED_LONG_AGO, Effect.NO_CHANGE,
    ),
    "more_answers_fail_than_before_at_the_end": (
        {"network": network(), "error_ratio": Known(0.2, NOW)}, REPAIRED_LONG_AGO, Effect.WORSE,
    ),
    "the_network_cannot_be_read": ({"network": unknown("network")}, REPAIRED, Effect.UNKNOWN),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "made", "effect"), NETWORK_VERDICTS.values(), ids=NETWORK_VERDICTS.keys())
def test_verdict_on_the_network(changes: Changes, made: Attempt, effect: Effect) -> None:
    assert REPAIR.verify(facts(**changes), made, LIMITS).effect is effect  # type: ignore[arg-type]


def damaged(*, a: str = "", b: str = "", pods: str = "ab") -> Known[tuple[Row, ...]]:
    """What each service pod says about the collections of `books` and `songs`."""
    accused = {"a": a.split(), "b": b.split()}
    rows = [
        Row({"namespace": "ns", "pod": f"demo-{letter}", "project": name}, float(name in accused[letter]), NOW)
        for letter in pods
        for name in ("books", "songs")
    ]
    return Known(tuple(rows), NOW)


def rebuild(project: str, **changes: object) -> Attempt:
    target = Target(kind="PersistentVolumeClaim", name="demo-database", uid="uid-claim")
    action = RunTask(target=target, task="rebuild-collection", arguments=("--project", project))
    report = TaskReport(ok=True, message="`rebuild-collection` succeeded in 3 s.")
    whole: dict[str, object] = {"option": "RebuildCollection", "action": action, "acted": NOW - minutes(1)}
    return attempt(2, **(whole | {"report": report, "before": (error_ratio(0.0),)} | changes))


def rows(fact: object) -> dict[str, object]:
    return {"rows_by_name": {"collection_damaged": fact}}


def ended(made: Attempt) -> Attempt:
    update = {"started": NOW - minutes(9), "finished": NOW - minutes(4), "outcome": Outcome.FAILED}
    return made.model_copy(update=update)


RESTARTED_IN_VAIN = Journal(attempts=(failed(),))
BOTH = rows(damaged(a="books songs", b="books songs"))
REBUILDS: dict[str, tuple[Changes, Journal, str, str]] = {
    # what is seen, what was done, whose collection is rebuilt, what 2D says where none is
    "a_restart_has_not_helped": (rows(damaged(a="books", b="books")), RESTARTED_IN_VAIN, "books", ""),
    "a_restart_has_helped_for_a_while": (
        rows(damaged(a="books", b="books")), Journal(attempts=(failed(outcome=Outcome.SUCCESSFUL),)), "books", "",
    ),
    "nothing_was_restarted": (BOTH, Journal(), "", "A restart comes before a rebuild"),
    "a_restart_long_ago_says_nothing": (
        BOTH, Journal(attempts=(failed(ago=timedelta(hours=3)),)), "", "A restart comes before a rebuild",
    ),
    "a_restart_that_has_not_ended_says_nothing": (
        BOTH, Journal(attempts=(failed(outcome=None, finished=None),)), "", "A restart comes before a rebuild",
    ),
    "a_restart_that_was_withdrawn_is_none": (
        BOTH, Journal(attempts=(failed(outcome=Outcome.BLOCKED),)), "", "A restart comes before a rebuild",
    ),
    "one_after_the_other": (BOTH, Journal(attempts=(failed(), ended(rebuild("books")))), "songs", ""),
    "all_were_rebuilt": (
        BOTH, Journal(attempts=(failed(), ended(rebuild("books")), ended(rebuild("songs")))), "", "did not help",
    ),
    "pods_disagree_about_one": (rows(damaged(a="books songs", b="songs")), RESTARTED_IN_VAIN, "songs", ""),
    "pods_disagree": (rows(damaged(a="books", b="songs")), RESTARTED_IN_VAIN, "", "accuses no single collection"),
    "nobody_accuses_any": (rows(damaged()), RESTARTED_IN_VAIN, "", "accuses no single collection"),
    "a_pod_that_is_not_heard_does_not_count": (rows(damaged(a="books", pods="a")), RESTARTED_IN_VAIN, "books", ""),
    "no_pod_is_heard": (rows(damaged(pods="")), RESTARTED_IN_VAIN, "", "has no value of a ready service pod"),
    "prometheus_does_not_say": (rows(unknown()), RESTARTED_IN_VAIN, "", "Which collection is damaged is unknown"),
    "not_a_number_accuses_nobody": (
        rows(Known((Row({"pod": "demo-a", "project": "books"}, math.nan, NOW),), NOW)),
        RESTARTED_IN_VAIN, "", "accuses no single collection",
    ),
    "chroma_is_not_ready": (BOTH | {"chroma_pods": NOT_READY}, RESTARTED_IN_VAIN, "", "pod is not ready"),
    "there_is_no_claim": (
        BOTH | {"volumes": Known(dict[str, Volume](), NOW)}, RESTARTED_IN_VAIN, "", "The database has no claim yet",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "journal", "project", "said"), REBUILDS.values(), ids=REBUILDS.keys())
def test_which_collection_is_rebuilt(changes: Changes, journal: Journal, project: str, said: str) -> None:
    at = facts(chroma_up=False, network=network(), **changes)  # type: ignore[arg-type]
    diagnosis = RUNBOOK.diagnose(at, LIMITS)
    assert isinstance(diagnosis, Detected)
    answer = REBUILD.consider(at, diagnosis, journal, LIMITS)
    if project:
        assert isinstance(answer, Applicable)
        assert answer.action == rebuild(project).action
        restart_instead = RESTART.consider(at, diagnosis, journal, LIMITS)
        assert isinstance(restart_instead, NotApplicable)
        assert project in restart_instead.message
    else:
        assert isinstance(answer, NotApplicable | Pause)
        assert said in answer.message


REBUILD_VERDICTS: dict[str, tuple[Changes, Attempt, Effect]] = {
    "recovered": (rows(damaged()), rebuild("books"), Effect.BETTER),
    "one_pod_still_accuses_it": (rows(damaged(a="books")), rebuild("books"), Effect.PENDING),
    "all_still_accuse_it_at_the_end": (
        rows(damaged(a="books", b="books")), rebuild("books", acted=NOW - minutes(10)), Effect.NO_CHANGE,
    ),
    "canaries_still_fail_at_the_end": (
        rows(damaged()) | {"canary_success_ratio": per_pod(series(0.5))},
        rebuild("books", acted=NOW - minutes(10)), Effect.NO_CHANGE,
    ),
    "another_collection_is_damaged_and_keeps_canaries_bad": (
        rows(damaged(a="songs", b="songs")) | {"canary_success_ratio": per_pod(series(0.0))},
        rebuild("books"), Effect.BETTER,
    ),
    "no_canary_has_asked_since": (
        rows(damaged(a="songs", b="songs")) | {"canary_timestamp": per_pod(series(NOW.timestamp() - 60))},
        rebuild("books"), Effect.PENDING,
    ),
    "prometheus_does_not_say": (rows(unknown()), rebuild("books"), Effect.UNKNOWN),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "made", "effect"), REBUILD_VERDICTS.values(), ids=REBUILD_VERDICTS.keys())
def test_verdict_on_a_rebuild(changes: Changes, made: Attempt, effect: Effect) -> None:
    assert REBUILD.verify(facts(**changes), made, LIMITS).effect is effect  # type: ignore[arg-type]


DOUBTS: dict[str, tuple[Changes, IncidentRecord, str | None, str]] = {
    "a_rebuild_comes_first": (BOTH, incident(failed()), None, ""),
    "a_rebuild_is_under_way": (BOTH, incident(failed(), rebuild("books", acted=None, report=None)), None, ""),
    "a_rebuild_did_not_help": (
        BOTH, incident(failed(), ended(rebuild("books"))), "IntegrityInDoubt", "A rebuild was tried for books.",
    ),
    "no_collection_is_accused": (rows(damaged()), incident(failed()), "IntegrityInDoubt", "No single collection"),
    "it_is_unknown_which": (rows(unknown()), incident(failed()), "IntegrityInDoubt", "No single collection"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "record", "reason", "said"), DOUBTS.values(), ids=DOUBTS.keys())
def test_integrity_is_in_doubt_when_no_rebuild_can_help(
    changes: Changes, record: IncidentRecord, reason: str | None, said: str
) -> None:
    escalation = RUNBOOK.escalate(facts(chroma_up=False, **changes), record, LIMITS)  # type: ignore[arg-type]
    assert (escalation.reason if escalation else None) == reason
    assert escalation is None or said in escalation.message


MIB = 1024**2
LIMIT = "chroma.resources.limits.memory"
OOM_KILLED = chroma(
    pod(
        is_ready=False,
        container=waiting(
            "CrashLoopBackOff",
            "back-off",
            restart_count=3,
            last_exit_reason="OOMKilled",
            last_finished_at=NOW - seconds(20),
        ),
    )
)


def node_memory(total: float, used: float, node: str = "node-1") -> dict[str, object]:
    """What cAdvisor says of one node, in MiB."""
    values = {"node_memory": total * MIB, "node_memory_used": used * MIB, "node_cpu_share": 0.5}
    return {"rows_by_name": {name: Known((Row({"node": node}, value, NOW),), NOW) for name, value in values.items()}}


def limit(asked: str, present: str | None = None) -> dict[str, object]:
    spec = Spec.model_validate({"chroma": {"resources": {"limits": {"memory": asked}}}})
    if present is None:
        return {"spec": spec}
    overlay = FieldOverlay(
        incident="demo-chroma-unreachable-0001",
        attempt="demo-chroma-unreachable-0001-1",
        at=NOW,
        runbook="ChromaUnreachable",
        value=present,
        instead_of=asked,
    )
    return {"spec": spec, "overlays": Overlays(fields={LIMIT: overlay})}


ROOMY = node_memory(16384, 4096)
RAISES: dict[str, tuple[Changes, str, str]] = {
    # what is seen, the new limit, what is said where there is none
    "half_as_much_again": ({"chroma_pods": OOM_KILLED} | limit("2Gi") | ROOMY, "3072Mi", ""),
    "a_second_step_ends_at_twice_the_spec": (
        {"chroma_pods": OOM_KILLED} | limit("2Gi", "3072Mi") | ROOMY, "4096Mi", "",
    ),
    "never_more_than_twice_the_spec": (
        {"chroma_pods": OOM_KILLED} | limit("2Gi", "4096Mi") | ROOMY, "", "Its limit is 4096Mi already",
    ),
    "an_odd_limit": ({"chroma_pods": OOM_KILLED} | limit("333Mi") | ROOMY, "499Mi", ""),
    "the_last_bit_of_room": ({"chroma_pods": OOM_KILLED} | limit("2Gi") | node_memory(10000, 7476), "3072Mi", ""),
    "the_node_would_be_full": (
        {"chroma_pods": OOM_KILLED} | limit("2Gi") | node_memory(10000, 7477), "", "no room for 3072Mi (1024 MiB more)",
    ),
    "another_node_says_nothing": (
        {"chroma_pods": OOM_KILLED} | node_memory(16384, 4096, "node-2"), "", "node node-1",
    ),
    "nobody_has_asked_for_the_node": ({"chroma_pods": OOM_KILLED}, "", "Whether its node has room"),
    "a_node_without_memory_is_not_believed": (
        {"chroma_pods": OOM_KILLED} | node_memory(16384, math.nan), "", "node node-1",
    ),
    "it_crashes_for_another_reason": (
        {"chroma_pods": chroma(pod(is_ready=False, container=waiting("CrashLoopBackOff", "back-off", restart_count=9)))}
        | ROOMY, "", "not the reason",
    ),
    "it_hangs": ({"chroma_pods": NOT_READY} | ROOMY, "", "not the reason"),
    "killed_for_memory_once": (
        {"chroma_pods": chroma(pod(container=container(restart_count=1, last_exit_reason="OOMKilled")))} | ROOMY,
        "", "not the reason",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "wanted", "said"), RAISES.values(), ids=RAISES.keys())
def test_when_the_memory_limit_is_raised(changes: Changes, wanted: str, said: str) -> None:
    at = facts(chroma_up=False, **changes)  # type: ignore[arg-type]
    diagnosis = RUNBOOK.diagnose(at, LIMITS)
    assert isinstance(diagnosis, Detected)
    answer = RAISE.consider(at, diagnosis, Journal(), LIMITS)
    if wanted:
        assert isinstance(answer, Applicable)
        assert isinstance(answer.action, SetFields)
        assert answer.action.values == {LIMIT: wanted}
        assert answer.action.target == Target(kind="KnowledgeBeast", name="demo", uid="uid-demo")
        assert isinstance(RESTART.consider(at, diagnosis, Journal(), LIMITS), NotApplicable)
    else:
        assert isinstance(answer, NotApplicable)
        assert said in answer.message


RAISED = attempt(
    option="RaiseMemoryLimit",
    action=SetFields(target=Target(kind="KnowledgeBeast", name="demo", uid="uid-demo"), fields={LIMIT: '"3072Mi"'}),
    acted=NOW - minutes(1),
)
RAISED_LONG_AGO = RAISED.model_copy(update={"acted": NOW - minutes(10)})
SUCCESSOR = chroma(pod(uid="uid-chroma-2", created_at=NOW - seconds(50)))
RAISE_VERDICTS: dict[str, tuple[Changes, Attempt, Effect]] = {
    "recovered": ({"chroma_pods": SUCCESSOR}, RAISED, Effect.BETTER),
    "a_pod_of_the_same_second_is_a_new_one": (
        {"chroma_pods": chroma(pod(uid="uid-chroma-2", created_at=NOW - minutes(1)))},
        RAISED.model_copy(update={"acted": NOW - seconds(59.5)}), Effect.BETTER,
    ),
    "the_old_pod_is_still_there": ({}, RAISED, Effect.PENDING),
    "it_is_killed_again": ({"chroma_pods": OOM_KILLED}, RAISED_LONG_AGO, Effect.NO_CHANGE),
    "canaries_still_fail_at_the_end": (
        {"chroma_pods": SUCCESSOR, "canary_success_ratio": per_pod(series(0.0))}, RAISED_LONG_AGO, Effect.NO_CHANGE,
    ),
    "the_pods_cannot_be_listed": ({"chroma_pods": unknown("pods")}, RAISED, Effect.UNKNOWN),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "made", "effect"), RAISE_VERDICTS.values(), ids=RAISE_VERDICTS.keys())
def test_verdict_on_a_higher_limit(changes: Changes, made: Attempt, effect: Effect) -> None:
    assert RAISE.verify(facts(**changes), made, LIMITS).effect is effect  # type: ignore[arg-type]
