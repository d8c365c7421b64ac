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
from knowledgebeast_operator.core.facts import Facts, Known, PerPod, Pod, Sample, Unknown
from knowledgebeast_operator.core.ledger import Attempt, IncidentRecord, Journal
from knowledgebeast_operator.core.runbook import (
    Applicable,
    Detected,
    Effect,
    NotApplicable,
    NotDetected,
    Pause,
    Undetermined,
)
from knowledgebeast_operator.runbooks.chroma_unreachable import RUNBOOK

Changes: TypeAlias = Mapping[str, object]

LIMITS = RUNBOOK.limits
RESTART = RUNBOOK.options[0]


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
