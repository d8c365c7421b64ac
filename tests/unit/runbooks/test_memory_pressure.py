"""Incident 3: from the memory of the pods to what is done about it, and when a human is called."""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import pytest

from cache_facts import LIMIT, MIB, cached_facts, memory_series, minutes_ago, of_pods
from kb_facts import NOW, container, incident, minutes, pod, policy, seconds, situation, unknown
from knowledgebeast_operator.core.actions import RollingRestart, RunTask, SetFields, Target
from knowledgebeast_operator.core.decide import decide
from knowledgebeast_operator.core.decision import (
    Begin,
    Blocked,
    Decision,
    Escalate,
    Healthy,
    Open,
    Perform,
    Uncertain,
    Wait,
)
from knowledgebeast_operator.core.facts import Facts, Known, Pod, Sample
from knowledgebeast_operator.core.ledger import Attempt, Escalation, Journal, Outcome, Sli, TaskReport
from knowledgebeast_operator.core.memory_escalation import release
from knowledgebeast_operator.core.overlays import FieldOverlay, Overlays, put
from knowledgebeast_operator.core.policy import Policy
from knowledgebeast_operator.core.runbook import Effect
from knowledgebeast_operator.runbooks.memory_pressure import RUNBOOK, verify

LIMITS = Policy().limits(RUNBOOK, seconds(10))
HIGH = 1900.0 * MIB
FIELD = "service.resources.limits.memory"


def filling(per_hour: float, now: float = 1500.0, *, for_minutes: float = 30) -> "partial[float]":
    """Memory in bytes that grows by so many MiB an hour up to `now` MiB, for the last minutes."""
    return partial(_filled, per_hour=per_hour, now=now, for_seconds=for_minutes * 60)


def _filled(ago: float, *, per_hour: float, now: float, for_seconds: float) -> float:
    return (now - per_hour * min(ago, for_seconds) / 3600) * MIB


def swinging(ago: float) -> float:
    """900 MiB and up to 1,500 every ten minutes."""
    return (900 + 600 * (1 - (ago % 600) / 600)) * MIB


def high_for(length: float) -> "partial[float]":
    return partial(_high, length=length)


def _high(ago: float, *, length: float) -> float:
    return HIGH if ago <= length * 60 else 1000 * MIB


def killed(ago: float, name: str = "demo-a", **changes: object) -> Pod:
    last = container(last_exit_reason="OOMKilled", last_exit_code=137, last_finished_at=minutes_ago(ago), **changes)
    return pod(name, f"uid-{name}", container=last)


def with_pods(*pods: Pod) -> Known[tuple[Pod, ...]]:
    return Known(pods, NOW)


WELL = pod("demo-b", "uid-b")
ADDRESSED = with_pods(pod("demo-a", "uid-a", address="10.0.0.1"), pod("demo-b", "uid-b", address="fd00::2"))


CALLED = Escalation(at=NOW, reason="LeakTooFast", message="", next_step="")
"""A human has been called for something that does not end the operator's attempts."""


def step(snapshot: Facts, *attempts: Attempt, is_open: bool = True, item: object = None) -> Decision:
    record = incident(*attempts, runbook=RUNBOOK.name, escalation=CALLED) if is_open else None
    settings = policy(runbooks=[item] if item else [])
    return decide(
        situation(snapshot, incident=record, journal=Journal(attempts=attempts), policy=settings, runbook=RUNBOOK)
    )


def said(decision: Decision) -> str:
    """What was decided, in a word or two."""
    match decision:
        case Begin(attempt=attempt):
            action = attempt.action
            return f"{attempt.option} {dict(action.values)}" if isinstance(action, SetFields) else attempt.option
        case Wait(reason=reason) | Blocked(reason=reason):
            return reason
        case Escalate(escalation=escalation):
            return escalation.reason
        case _:
            return type(decision).__name__


DETECTED: dict[str, tuple[Facts, type[Decision]]] = {
    "a_third_in_use": (cached_facts(), Healthy),
    "above_90_percent_for_five_minutes": (cached_facts(anon=high_for(5)), Open),
    "above_90_percent_for_less": (cached_facts(anon=high_for(4.8)), Wait),
    "at_90_percent": (cached_facts(anon=0.9 * LIMIT), Healthy),
    "full_within_four_hours": (cached_facts(anon=filling(140)), Open),
    "full_later": (cached_facts(anon=filling(130)), Healthy),
    "filling_up_at_the_start": (cached_facts(anon=filling(600, now=1000)), Healthy),
    "growing_for_too_short_a_time_to_tell": (cached_facts(anon=1000 * MIB, hidden={}), Healthy),
    "killed_for_memory": (cached_facts(service_pods=with_pods(killed(1), WELL)), Open),
    "killed_before_the_window": (cached_facts(service_pods=with_pods(killed(31), WELL)), Healthy),
    "ended_for_another_reason": (
        cached_facts(service_pods=with_pods(pod("demo-a", container=container(last_exit_reason="Error")), WELL)),
        Healthy,
    ),
    "requests_that_found_no_memory": (cached_facts(memory_errors=1), Open),
    "a_pod_that_is_not_scraped": (cached_facts(series_by_name={}), Uncertain),
    "nobody_counts_errors": (cached_facts(hidden={"memory_errors": unknown()}), Uncertain),
    "killed_though_nobody_is_scraped": (
        cached_facts(series_by_name={}, service_pods=with_pods(killed(1), WELL)),
        Open,
    ),
}


@pytest.mark.parametrize(("snapshot", "expected"), DETECTED.values(), ids=DETECTED.keys())
def test_when_an_incident_opens(snapshot: Facts, expected: type[Decision]) -> None:
    assert type(step(snapshot, is_open=False)) is expected


def test_a_pod_that_has_just_started_is_not_judged_by_its_growth() -> None:
    short = Known({name: samples[-80:] for name, samples in memory_series(filling(600)).value.items()}, NOW)
    assert type(step(cached_facts(series_by_name={"memory_anon": short}), is_open=False)) is Healthy


def profiled(ago: float = 5) -> Attempt:
    target = Target(kind="PersistentVolumeClaim", name="demo-database", uid="uid-claim")
    at = minutes_ago(ago)
    return Attempt(
        id="demo-memory-pressure-0001-1",
        option="ProfileHeap",
        action=RunTask(target=target, task="heap-profile"),
        claimed_by="o",
        started=at,
        report=TaskReport(ok=True),
        finished=at,
        outcome=Outcome.DIAGNOSED,
    )


def set_fields(option: str, fields: dict[str, int], ago: float = 10, number: int = 2) -> Attempt:
    at = minutes_ago(ago)
    return Attempt(
        id=f"demo-memory-pressure-0001-{number}",
        option=option,
        action=put(cached_facts().itself, Overlays(), fields)[0],
        claimed_by="o",
        started=at,
        acted=at,
        finished=at,
        outcome=Outcome.FAILED,
    )


HELD_BY_CACHES = {"query": 700.0 * MIB, "embedding": 100.0 * MIB}
BOUNDED = {"cache": {"queryEntries": 1000, "embeddingEntries": 5000, "maxMemoryMB": 16}}
LARGE_DOCUMENTS = {"service": {"config": {"maxDocumentSizeMB": 200}}}
DRAINED = {"service": {"config": {"maxDocumentSizeMB": 10}}}
CRASHED = replace(killed(1), is_ready=False)

CHOSEN: dict[str, tuple[Facts, tuple[Attempt, ...], str]] = {
    "3P_before_anything_is_restarted": (cached_facts(anon=filling(140), service_pods=ADDRESSED), (), "ProfileHeap"),
    "3P_once_an_hour": (cached_facts(anon=filling(140), service_pods=ADDRESSED), (profiled(),), "RestartService"),
    "3P_not_of_a_pod_without_an_address": (cached_facts(anon=filling(140)), (), "RestartService"),
    "3P_not_when_nothing_grows": (cached_facts(anon=HIGH, service_pods=ADDRESSED), (), "RestartService"),
    "3A_caches_that_hold_much": (
        cached_facts(anon=HIGH, cache_bytes=HELD_BY_CACHES),
        (),
        "LimitCaches {'cache.maxMemoryMB': 16}",
    ),
    "3A_down_to_half_of_the_limit": (
        cached_facts(anon=HIGH, cache_bytes={"query": 1200.0 * MIB}),
        (),
        "LimitCaches {'cache.maxMemoryMB': 324}",
    ),
    "3A_the_runbooks_numbers": (
        cached_facts(
            anon=HIGH,
            cache_bytes=HELD_BY_CACHES,
            spec={"cache": {"queryEntries": 9000, "embeddingEntries": 50_000, "maxMemoryMB": 16}},
        ),
        (),
        "LimitCaches {'cache.queryEntries': 1000, 'cache.embeddingEntries': 5000}",
    ),
    "3A_caches_that_grow_with_it": (
        cached_facts(anon=filling(140), cache_growth=100 * MIB / 3600, service_pods=ADDRESSED),
        (),
        "LimitCaches {'cache.maxMemoryMB': 16}",
    ),
    "3A_not_when_they_are_bounded": (
        cached_facts(anon=HIGH, cache_bytes=HELD_BY_CACHES, spec=BOUNDED),
        (),
        "RestartService",
    ),
    "3C_documents_in_flight": (
        cached_facts(anon=swinging, service_pods=with_pods(killed(1), WELL), queued=3, spec=LARGE_DOCUMENTS),
        (),
        "LimitDocuments {'service.config.maxDocumentSizeMB': 50}",
    ),
    "3C_below_the_runbooks_size": (
        cached_facts(anon=swinging, service_pods=with_pods(killed(1), WELL), queued=3),
        (),
        "LimitDocuments {'service.config.maxDocumentSizeMB': 25}",
    ),
    "3C_not_without_documents": (
        cached_facts(anon=swinging, service_pods=with_pods(killed(1), WELL)),
        (),
        "RaiseMemoryLimit {'service.resources.limits.memory': '3072Mi'}",
    ),
    "3C_not_when_memory_does_not_follow_them": (cached_facts(anon=HIGH, queued=3), (), "RestartService"),
    "3C_not_any_smaller": (
        cached_facts(anon=swinging, service_pods=with_pods(killed(1), WELL), queued=3, spec=DRAINED),
        (),
        "RaiseMemoryLimit {'service.resources.limits.memory': '3072Mi'}",
    ),
    "3T_after_a_restart": (
        cached_facts(anon=HIGH),
        (set_fields("RestartService", {}, ago=30),),
        "RaiseMemoryLimit {'service.resources.limits.memory': '3072Mi'}",
    ),
    "3T_when_no_pod_lives_long_enough_to_be_read": (
        cached_facts(service_pods=with_pods(CRASHED), series_by_name={}),
        (),
        "RaiseMemoryLimit {'service.resources.limits.memory': '3072Mi'}",
    ),
    "3T_not_without_room_on_the_node": (
        cached_facts(service_pods=with_pods(killed(1), WELL), node_used=12_500.0 * MIB),
        (),
        "NoOptionApplicable",
    ),
    "3T_not_on_a_node_that_nobody_measures": (
        cached_facts(service_pods=with_pods(killed(1), WELL), hidden={"node_memory": unknown()}),
        (),
        "NoOptionApplicable",
    ),
}


@pytest.mark.parametrize(("snapshot", "attempts", "expected"), CHOSEN.values(), ids=CHOSEN.keys())
def test_what_is_done(snapshot: Facts, attempts: tuple[Attempt, ...], expected: str) -> None:
    assert said(step(snapshot, *attempts)) == expected


def in_force(value: str, at: float = 0.0) -> Overlays:
    overlay = FieldOverlay(
        incident="i", attempt="a", at=minutes_ago(at), runbook=RUNBOOK.name, value=value, instead_of="2Gi"
    )
    return Overlays(fields={FIELD: overlay})


@pytest.mark.parametrize(("present", "expected"), [("3072Mi", "'4096Mi'"), ("4096Mi", "NoOptionApplicable")])
def test_the_limit_goes_up_to_twice_the_specs(present: str, expected: str) -> None:
    snapshot = cached_facts(service_pods=with_pods(killed(1), WELL), overlays=in_force(present))
    assert expected in said(step(snapshot))


def test_the_fullest_pod_is_profiled_and_restarted_first() -> None:
    fuller = memory_series(filling(140)).value["demo-a"]
    fullest = tuple(Sample(one.at, one.value + 50 * MIB) for one in fuller)
    both = {"memory_anon": Known({"demo-a": fuller, "demo-b": fullest}, NOW)}
    snapshot = cached_facts(series_by_name=both, service_pods=ADDRESSED)
    profile, restart = step(snapshot), step(snapshot, profiled())
    assert isinstance(profile, Begin)
    assert isinstance(profile.attempt.action, RunTask)
    assert profile.attempt.action.arguments == ("--admin-url", "http://[fd00::2]:8001", "--seconds", "30")
    assert isinstance(restart, Begin)
    assert isinstance(restart.attempt.action, RollingRestart)
    assert [one.name for one in restart.attempt.action.pods] == ["demo-b", "demo-a"]
    assert restart.attempt.action.target.uid == "uid-deployment"


def test_a_profile_that_has_only_been_written_down_is_taken() -> None:
    growing = cached_facts(anon=filling(140), service_pods=ADDRESSED)
    begun = step(growing)
    assert isinstance(begun, Begin)
    assert type(step(growing, begun.attempt)) is Perform


def acted(ago: float, share: float = 0.95) -> Attempt:
    tried = set_fields("LimitCaches", {"cache.maxMemoryMB": 16}, ago=ago)
    before = (Sli(name="memory_share", value=share, unit="ratio"), Sli(name="error_ratio", value=0.0, unit="ratio"))
    return tried.model_copy(update={"before": before, "finished": None, "outcome": None})


VERDICTS: dict[str, tuple[Facts, Attempt, Effect]] = {
    "inside_its_limit_and_steady": (cached_facts(), acted(11), Effect.BETTER),
    "too_early_to_see_where_it_heads": (cached_facts(), acted(9), Effect.PENDING),
    "still_high": (cached_facts(anon=HIGH), acted(11), Effect.PENDING),
    "still_high_at_the_deadline": (cached_facts(anon=HIGH), acted(30), Effect.NO_CHANGE),
    "still_growing": (cached_facts(anon=filling(200)), acted(11), Effect.PENDING),
    "still_growing_at_the_deadline": (cached_facts(anon=filling(200)), acted(30), Effect.NO_CHANGE),
    "it_grew_before_the_action": (
        cached_facts(anon=lambda ago: (1500 - max(0.0, ago - 900) / 10) * MIB),
        acted(15),
        Effect.BETTER,
    ),
    "killed_since": (cached_facts(service_pods=with_pods(killed(5), WELL)), acted(11), Effect.WORSE),
    "killed_before": (cached_facts(service_pods=with_pods(killed(12), WELL)), acted(11), Effect.BETTER),
    "a_pod_that_was_killed_had_started_empty": (cached_facts(anon=1500 * MIB), acted(30, share=0.3), Effect.BETTER),
    "errors_since": (cached_facts(error_ratio=Known(0.2, NOW)), acted(30), Effect.WORSE),
    "not_measured": (cached_facts(series_by_name={}), acted(11), Effect.UNKNOWN),
}


@pytest.mark.parametrize(("snapshot", "attempt", "effect"), VERDICTS.values(), ids=VERDICTS.keys())
def test_the_verdict(snapshot: Facts, attempt: Attempt, effect: Effect) -> None:
    assert verify(snapshot, attempt, LIMITS).effect is effect


FOUR_RESTARTS = {"service_restarts": of_pods(2)}
LONG_AGO = {"detected_at": minutes_ago(121)}
HELPED = set_fields("LimitCaches", {}).model_copy(update={"outcome": Outcome.SUCCESSFUL})

ESCALATED: dict[str, tuple[Facts, Mapping[str, object], str | None]] = {
    "a_leak_of_more_than_100_an_hour": (cached_facts(anon=filling(110)), {}, "LeakTooFast"),
    "a_slower_one": (cached_facts(anon=filling(90)), {}, None),
    "growth_of_the_caches_is_no_leak": (cached_facts(anon=filling(110), cache_growth=20 * MIB / 3600), {}, None),
    "killed_once_by_a_counter_that_is_no_number": (
        cached_facts(service_pods=with_pods(killed(50), WELL), hidden={"service_restarts": of_pods(math.nan)}),
        {},
        None,
    ),
    "killed_once": (cached_facts(service_pods=with_pods(killed(50), WELL)), {}, None),
    "killed_on_two_pods": (cached_facts(service_pods=with_pods(killed(50), killed(10, "demo-b"))), {}, "KilledAgain"),
    "killed_twice_on_one": (
        cached_facts(service_pods=with_pods(killed(10), WELL), hidden=FOUR_RESTARTS),
        {},
        "KilledAgain",
    ),
    "killed_more_than_an_hour_ago": (
        cached_facts(service_pods=with_pods(killed(61), killed(62, "demo-b"))),
        {},
        None,
    ),
    "no_cause_after_two_hours": (cached_facts(anon=HIGH), LONG_AGO, "CauseUnknown"),
    "two_hours_with_an_attempt_that_helped": (cached_facts(anon=HIGH), LONG_AGO | {"attempts": (HELPED,)}, None),
    "high_for_a_minute": (cached_facts(anon=HIGH), {}, None),
}


@pytest.mark.parametrize(("snapshot", "changes", "reason"), ESCALATED.values(), ids=ESCALATED.keys())
def test_when_a_human_is_called(snapshot: Facts, changes: Mapping[str, object], reason: str | None) -> None:
    found = RUNBOOK.escalate(snapshot, incident(runbook=RUNBOOK.name, **changes), LIMITS)
    assert (found.reason if found else None) == reason


A_DAY = 24 * 60

RELEASED: dict[str, tuple[Facts, str, float, bool]] = {
    "after_a_day_below_half_of_the_specs_limit": (cached_facts(anon=1000 * MIB), FIELD, A_DAY, True),
    "not_above_half": (cached_facts(anon=1100 * MIB), FIELD, A_DAY, False),
    "not_before_a_day": (cached_facts(anon=1000 * MIB), FIELD, A_DAY - 1, False),
    "not_unmeasured": (cached_facts(series_by_name={}), FIELD, A_DAY, False),
    "not_other_fields": (cached_facts(), "cache.queryEntries", A_DAY, False),
}


@pytest.mark.parametrize(("snapshot", "path", "age", "ends"), RELEASED.values(), ids=RELEASED.keys())
def test_when_a_raised_limit_goes_back(snapshot: Facts, path: str, age: float, ends: bool) -> None:
    overlay = in_force("3072Mi", at=age).fields[FIELD]
    assert (release(snapshot, path, overlay, LIMITS) is not None) is ends


def test_thresholds_are_fields_of_the_object() -> None:
    item = {"name": RUNBOOK.name, "thresholds": {"memoryShare": 0.3}, "for": "1m"}
    assert type(step(cached_facts(), is_open=False, item=item)) is Open


def test_a_good_pod_does_not_hide_a_full_one() -> None:
    full, good = memory_series(HIGH).value["demo-a"], memory_series(700 * MIB).value["demo-b"]
    mixed = cached_facts(series_by_name={"memory_anon": Known({"demo-a": full, "demo-b": good}, NOW)})
    opened = step(mixed, is_open=False)
    assert isinstance(opened, Open)
    assert "demo-a uses 93% of its memory limit" in opened.message
    assert opened.detected_at == NOW - minutes(30)
