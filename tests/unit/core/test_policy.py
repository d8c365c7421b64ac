"""What an object allows, and what cannot be honoured."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from kb_facts import NOW, SCRAPE, minutes, policy, seconds
from knowledgebeast_operator.core.ledger import Severity
from knowledgebeast_operator.core.policy import Policy
from knowledgebeast_operator.core.runbook import Mode, Runbook, Threshold
from knowledgebeast_operator.custom_resource import KnowledgeBeast
from knowledgebeast_operator.custom_resource.names import RESUME_ANNOTATION
from knowledgebeast_operator.runbooks.chroma_unreachable import RUNBOOK

DEFAULTS = replace(RUNBOOK.limits, thresholds={name: one.default for name, one in RUNBOOK.thresholds.items()})


def runbook_policy(**item: object) -> Policy:
    return policy(runbooks=[{"name": "ChromaUnreachable"} | item])


def problems(of: Policy, *, scrape: timedelta = SCRAPE, runbook: Runbook = RUNBOOK) -> list[str]:
    return [problem.field.rpartition(".")[2] for problem in of.problems(runbook, scrape, runbook.severity)]


def test_an_object_is_read_with_its_annotations() -> None:
    knowledgebeast = KnowledgeBeast.parse(
        {
            "metadata": {
                "name": "demo",
                "namespace": "ns",
                "uid": "u",
                "annotations": {"knowledgebeast.io/paused": "moving", RESUME_ANNOTATION: "2026-01-07T11:00:00Z"},
            },
            "spec": {"remediation": {"mode": "DryRun", "budget": {"maxActions": 2, "per": "30m"}}},
        }
    )
    read = Policy.of(knowledgebeast)
    assert read.mode is Mode.DRY_RUN
    assert read.budget.max_actions == 2
    assert read.resumed_at == datetime(2026, 1, 7, 11, tzinfo=UTC)
    pause = read.pause_at(NOW)
    assert pause is not None
    assert pause.reason == "moving"


PAUSES: dict[str, tuple[list[dict[str, str]], str | None]] = {
    "none": ([], None),
    "without_an_end": ([{"reason": "a"}], "a"),
    "not_over_yet": ([{"reason": "a", "until": "2026-01-07T12:00:01Z"}], "a"),
    "over": ([{"reason": "a", "until": "2026-01-07T12:00:00Z"}], None),
    "the_one_that_lasts_longest": (
        [{"reason": "a", "until": "2026-01-07T13:00:00Z"}, {"reason": "b", "until": "2026-01-07T14:00:00Z"}], "b",
    ),
    "the_one_without_an_end": ([{"reason": "a", "until": "2026-01-07T13:00:00Z"}, {"reason": "b"}], "b"),
    "in_another_time_zone": ([{"reason": "a", "until": "2026-01-07T13:00:01+01:00"}], "a"),
    "without_a_time_zone_it_is_utc": ([{"reason": "a", "until": "2026-01-07T12:00:01"}], "a"),
}  # fmt: skip


@pytest.mark.parametrize(("pauses", "reason"), PAUSES.values(), ids=PAUSES.keys())
def test_pause_in_force(pauses: list[dict[str, str]], reason: str | None) -> None:
    pause = policy(pauses=pauses).pause_at(NOW)
    assert (pause.reason if pause else None) == reason


def test_limits_are_the_runbooks_where_the_object_sets_none() -> None:
    assert policy().limits(RUNBOOK, SCRAPE) == DEFAULTS


def test_limits_are_worked_out_once_for_each_runbook_and_interval() -> None:
    of = policy()
    assert of.limits(RUNBOOK, SCRAPE) is of.limits(RUNBOOK, SCRAPE)
    assert of.limits(RUNBOOK, minutes(1)).hold == minutes(3)
    assert of.limits(replace(RUNBOOK, limits=replace(RUNBOOK.limits, max_attempts=1)), SCRAPE).max_attempts == 1
    assert of.limits(RUNBOOK, SCRAPE) == DEFAULTS


def test_every_field_of_an_item_reaches_the_limits() -> None:
    limits = runbook_policy(
        mode="DryRun", maxAttempts=5, cooldown="6m", healthyPeriod="7m", window="8m", **{"for": "1m"}, settle="20s",
        verifyTimeout="9m",
    ).limits(RUNBOOK, SCRAPE)  # fmt: skip
    assert (limits.mode, limits.max_attempts) == (Mode.DRY_RUN, 5)
    assert (limits.cooldown, limits.healthy_period, limits.window) == (minutes(6), minutes(7), minutes(8))
    assert (limits.hold, limits.settle, limits.verify_timeout) == (minutes(1), seconds(20), minutes(9))


def test_defaults_are_raised_to_three_scrapes_without_complaint() -> None:
    slow = minutes(1)
    limits = policy().limits(RUNBOOK, slow)
    assert (limits.hold, limits.window) == (minutes(3), minutes(6))
    assert problems(policy(), scrape=slow) == []


PROBLEMS: dict[str, tuple[Policy, list[str]]] = {
    "nothing_is_set": (policy(), []),
    "exactly_three_scrapes": (runbook_policy(**{"for": "30s"}), []),
    "a_hold_below_three_scrapes": (runbook_policy(**{"for": "29s"}), ["for"]),
    "a_healthy_period_below_three_scrapes": (runbook_policy(healthyPeriod="10s"), ["healthyPeriod"]),
    "a_verify_timeout_below_three_scrapes": (runbook_policy(verifyTimeout="10s"), ["verifyTimeout"]),
    "a_window_without_room_for_the_hold": (runbook_policy(window="50s"), ["window"]),
    "waits_are_not_measured": (runbook_policy(settle="5s", cooldown="5s"), []),
    "critical_runbooks_need_no_time_zone": (
        policy(maintenanceWindows=[{"days": ["Sat"], "start": "02:00", "duration": "1h", "timezone": "Mars"}]), [],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("of", "fields"), PROBLEMS.values(), ids=PROBLEMS.keys())
def test_problems(of: Policy, fields: list[str]) -> None:
    assert problems(of) == fields


def test_a_problem_says_the_numbers() -> None:
    [problem] = runbook_policy(**{"for": "29s"}).problems(RUNBOOK, SCRAPE, Severity.P0)
    assert "29s" in problem.message
    assert "10s" in problem.message
    assert "Set it to 30s or more" in problem.message


def test_a_refused_hold_is_still_detected_with_the_shortest_possible() -> None:
    assert runbook_policy(**{"for": "29s"}).limits(RUNBOOK, SCRAPE).hold == seconds(30)


def test_problems_of_the_object() -> None:
    of = policy(
        runbooks=[{"name": "Nonsense"}],
        maintenanceWindows=[{"days": ["Sat"], "start": "02:00", "duration": "1h", "timezone": "Mars"}],
        resume_annotation="yesterday",
    )
    found = {problem.field: problem.message for problem in of.object_problems(["ChromaUnreachable"])}
    assert set(found) == {
        "spec.remediation.runbooks[Nonsense]",
        "spec.remediation.maintenanceWindows[0].timezone",
        f"metadata.annotations[{RESUME_ANNOTATION}]",
    }
    assert "ChromaUnreachable" in found["spec.remediation.runbooks[Nonsense]"]


LATENCY = replace(RUNBOOK, thresholds={"p99Milliseconds": Threshold(500, 10, 60_000, "ms", "P99.")})


def test_a_threshold_is_the_runbooks_or_the_objects() -> None:
    assert Policy().limits(LATENCY, SCRAPE).threshold("p99Milliseconds") == 500
    assert (
        runbook_policy(thresholds={"p99Milliseconds": 200}).limits(LATENCY, SCRAPE).threshold("p99Milliseconds") == 200
    )


@pytest.mark.parametrize("thresholds", [{"p98Milliseconds": 200}, {"p99Milliseconds": 5}])
def test_a_threshold_that_the_runbook_cannot_use_stops_it_and_is_reported(thresholds: dict[str, float]) -> None:
    assert problems(runbook_policy(thresholds=thresholds), runbook=LATENCY) == list(thresholds)
