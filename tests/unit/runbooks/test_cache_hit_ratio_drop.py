"""Incident 7: from the counters of the caches to what is done about them, and when nothing is."""

import math
from dataclasses import replace
from functools import partial

import pytest

from cache_facts import COLD, DIVERSE, GOOD, MIB, SMALL, Traffic, cached_facts, minutes_ago, of_pods, rows
from kb_facts import NOW, container, incident, minutes, nothing_scraped, pod, policy, situation, unknown
from knowledgebeast_operator.core.actions import RunTask, SetFields, Target
from knowledgebeast_operator.core.cache_sizes import next_step
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
    Uncertain,
    Wait,
)
from knowledgebeast_operator.core.facts import Facts, Known
from knowledgebeast_operator.core.ledger import Attempt, Journal, Outcome, Sli, TaskReport
from knowledgebeast_operator.core.overlays import FieldOverlay, Overlays, put
from knowledgebeast_operator.core.policy import Policy
from knowledgebeast_operator.core.runbook import Effect
from knowledgebeast_operator.runbooks.cache_hit_ratio_drop import RUNBOOK, verify

LIMITS = Policy().limits(RUNBOOK, minutes(0))
RESTARTED = Known(
    (pod("demo-a", "uid-a", container=container(started_at=minutes_ago(10))), pod("demo-b", "uid-b")), NOW
)
KILLED = Known(
    (
        pod("demo-a", "uid-a", container=container(last_exit_reason="OOMKilled", last_finished_at=minutes_ago(5))),
        pod("demo-b", "uid-b"),
    ),
    NOW,
)
HALF_HIT = Traffic(hits=400, misses=600)
NO_GHOSTS = Traffic(hits=400, misses=600, evictions=550, ghost_hits=10)


def step(
    snapshot: Facts, *attempts: Attempt, is_open: bool = True, journal: Journal | None = None, item: object = None
) -> Decision:
    record = incident(*attempts, runbook=RUNBOOK.name) if is_open else None
    return decide(
        situation(
            snapshot, incident=record, journal=journal, policy=policy(runbooks=[item] if item else []), runbook=RUNBOOK
        )
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
    "caches_that_hit": (cached_facts(), Healthy),
    "less_than_half_of_the_queries": (cached_facts(query=HALF_HIT), Open),
    "exactly_half_is_enough": (cached_facts(query=Traffic(hits=500, misses=500)), Healthy),
    "too_few_queries": (cached_facts(query=Traffic(hits=20, misses=179)), Healthy),
    "just_enough_queries": (cached_facts(query=Traffic(hits=20, misses=180)), Open),
    "no_queries": (cached_facts(query=Traffic(0, 0), embedding=Traffic(0, 0)), Healthy),
    "new_queries_of_a_good_query_cache_miss_embeddings": (cached_facts(embedding=COLD), Healthy),
    "embeddings_while_the_query_cache_is_below_its_objective": (
        cached_facts(query=Traffic(hits=600, misses=400), embedding=COLD),
        Open,
    ),
    "counters_that_nobody_exports": (cached_facts(hidden={"cache_events": unknown()}), Uncertain),
    "pods_that_are_not_scraped_any_more": (cached_facts(breaker_state=nothing_scraped()), Uncertain),
    "a_counter_that_is_no_number": (cached_facts(query=Traffic(hits=math.nan, misses=10)), Uncertain),
}


@pytest.mark.parametrize(("snapshot", "expected"), DETECTED.values(), ids=DETECTED.keys())
def test_when_an_incident_opens(snapshot: Facts, expected: type[Decision]) -> None:
    assert type(step(snapshot, is_open=False)) is expected


small = partial(cached_facts, query=SMALL)


def filling(ago: float) -> float:
    """360 MiB more in an hour, so the limit is reached within four."""
    return 1000 * MIB - ago * MIB / 10


def sized(query: int, embedding: int = 5000, maximum: int = 2048) -> dict[str, object]:
    return {"cache": {"queryEntries": query, "embeddingEntries": embedding, "maxMemoryMB": maximum}}


CHOSEN: dict[str, tuple[Facts, str]] = {
    "7A_the_cache_that_is_too_small": (small(), "EnlargeCaches {'cache.queryEntries': 2500}"),
    "7A_both": (
        small(embedding=SMALL),
        "EnlargeCaches {'cache.queryEntries': 2500, 'cache.embeddingEntries': 10000}",
    ),
    "7A_from_a_size_between_two_steps": (small(spec=sized(700)), "EnlargeCaches {'cache.queryEntries': 2500}"),
    "7A_not_beyond_the_last_step": (small(spec=sized(10_000)), "NoOptionApplicable"),
    "7A_not_a_cache_that_is_turned_off": (small(spec=sized(0)), "NoOptionApplicable"),
    "7A_not_without_memory": (small(anon=1700 * MIB, cache_bytes={"query": 100.0 * MIB}), "NoOptionApplicable"),
    "7A_as_much_as_maxMemoryMB_allows": (
        small(anon=1600 * MIB, cache_bytes={"query": 140.0 * MIB}, spec=sized(1000, maximum=200)),
        "EnlargeCaches {'cache.queryEntries': 2500}",
    ),
    "7A_not_when_bytes_are_the_bound": (
        small(cache_bytes={"query": 60.0 * MIB, "embedding": 2.0 * MIB}, spec=sized(1000, maximum=64)),
        "NoOptionApplicable",
    ),
    "7A_not_while_memory_fills_up": (
        small(anon=filling),
        "NoOptionApplicable",
    ),
    "7A_not_after_a_kill_for_memory": (small(service_pods=KILLED), "NoOptionApplicable"),
    "7A_not_while_memory_is_unknown": (small(hidden={"memory_limit": unknown()}), "PrometheusUnreachable"),
    "7A_not_when_a_larger_cache_would_not_hit": (cached_facts(query=NO_GHOSTS), "NoOptionApplicable"),
    "7C_after_a_restart": (cached_facts(query=COLD, service_pods=RESTARTED), "WarmCaches"),
    "7C_after_the_index_moved_on": (cached_facts(query=COLD, index_changes=1), "WarmCaches"),
    "7C_not_while_the_index_changes": (
        cached_facts(query=COLD, index_changes=9, late_index_changes=1),
        "IndexChanges",
    ),
    "7C_not_while_a_pod_is_busy": (cached_facts(query=COLD, index_changes=1, cpu=1.7), "Busy"),
    "7C_not_while_nobody_knows": (
        cached_facts(query=COLD, index_changes=1, hidden={"late_service_cpu": unknown()}),
        "PrometheusUnreachable",
    ),
    "7C_not_when_nothing_emptied_them": (cached_facts(query=COLD), "NoOptionApplicable"),
    "7D_no_action_on_the_query_cache": (cached_facts(query=DIVERSE, diversity=0.9), "QueriesDiverse"),
    "7D_not_even_with_ghosts": (small(diversity=0.81), "QueriesDiverse"),
    "7D_the_embeddings_if_they_come_again": (
        cached_facts(query=DIVERSE, embedding=SMALL, diversity=0.9),
        "EmbeddingCacheOnly {'cache.embeddingEntries': 10000}",
    ),
    "7D_one_pod_with_queries_that_repeat_is_enough_for_7A": (
        small(hidden={"query_diversity": rows({("demo-a",): 0.9, ("demo-b",): 0.5}, "pod")}),
        "EnlargeCaches {'cache.queryEntries': 2500}",
    ),
}


@pytest.mark.parametrize(("snapshot", "expected"), CHOSEN.values(), ids=CHOSEN.keys())
def test_what_is_done(snapshot: Facts, expected: str) -> None:
    assert said(step(snapshot)) == expected


def test_why_nothing_is_done_names_the_numbers() -> None:
    decision = step(cached_facts(query=DIVERSE, diversity=0.9))
    assert isinstance(decision, Blocked)
    assert "90% are distinct" in decision.message
    assert "0% of the queries more" in decision.message


def test_options_that_do_not_fit_say_why() -> None:
    decision = step(cached_facts(query=COLD, index_changes=1))
    assert isinstance(decision, Begin)
    assert [name for name, _ in decision.passed_over] == ["7A EnlargeCaches", "7B NormaliseKeys"]


def test_a_larger_cache_can_be_taken_back() -> None:
    decision = step(small())
    assert isinstance(decision, Begin)
    assert decision.attempt.inverse == SetFields(target=small().itself, dropped=("cache.queryEntries",))


def test_warming_asks_every_pod_behind_the_admin_service() -> None:
    decision = step(cached_facts(query=COLD, index_changes=1))
    assert isinstance(decision, Begin)
    action = decision.attempt.action
    assert isinstance(action, RunTask)
    assert action.target.name == "demo-database"
    assert "--admin-url http://demo-admin:8001 --all-addresses" in action.command


def warmed(ago: float) -> Journal:
    target = Target(kind="PersistentVolumeClaim", name="demo-database", uid="uid-claim")
    at = minutes_ago(ago)
    done = Attempt(
        id="x-1",
        option="Other",
        action=RunTask(target=target, task="warm"),
        claimed_by="o",
        started=at,
        report=TaskReport(ok=True),
        finished=at,
    )
    return Journal(attempts=(done,))


@pytest.mark.parametrize(("ago", "expected"), [(9, "NoOptionApplicable"), (11, "WarmCaches")])
def test_caches_are_warmed_once_for_a_restart(ago: float, expected: str) -> None:
    assert said(step(cached_facts(query=COLD, service_pods=RESTARTED), journal=warmed(ago))) == expected


@pytest.mark.parametrize(
    ("began", "acted", "outcome", "restarted", "expected"),
    [
        (9, 8, Outcome.SUCCESSFUL, 10, "WarmedLately"),
        (29, 28, Outcome.SUCCESSFUL, 40, "WarmedLately"),
        (35, 29, Outcome.SUCCESSFUL, 40, "WarmedLately"),
        (35, 31, Outcome.SUCCESSFUL, 40, "NoOptionApplicable"),
        (9, 8, Outcome.SUCCESSFUL, 5, "WarmCaches"),
        (9, 8, Outcome.FAILED, 10, "NoOptionApplicable"),
        (9, 8, None, 10, "WarmedLately"),
    ],
)
def test_nobody_is_called_for_misses_from_before_a_warming_that_helped(
    began: float, acted: float, outcome: Outcome | None, restarted: float, expected: str
) -> None:
    """The window is half an hour; the restart may be out of it already, and a later one is another reason to warm."""
    [done] = warmed(began).attempts
    journal = Journal(attempts=(done.model_copy(update={"outcome": outcome, "acted": minutes_ago(acted)}),))
    pods = Known((pod("demo-a", "uid-a", container=container(started_at=minutes_ago(restarted))),), NOW)
    assert said(step(cached_facts(query=COLD, service_pods=pods), journal=journal)) == expected


@pytest.mark.parametrize(
    ("ago", "outcome", "expected"),
    [
        (20, Outcome.SUCCESSFUL, "EnlargedLately"),
        (20, None, "EnlargedLately"),
        (31, Outcome.SUCCESSFUL, "EnlargeCaches"),
        (20, Outcome.UNDONE, "EnlargeCaches"),
    ],
)
def test_a_cache_is_not_enlarged_again_for_misses_from_before(
    ago: float, outcome: Outcome | None, expected: str
) -> None:
    """Incident 1 has made it larger; the ratio is one of half an hour."""
    at = minutes_ago(ago)
    action = SetFields(target=small().itself, fields={"cache.queryEntries": "500"})
    done = Attempt(
        id="x-1",
        option="EnlargeQueryCache",
        action=action,
        claimed_by="o",
        started=at,
        acted=at,
        finished=None if outcome is None else at,
        outcome=outcome,
    )
    assert said(step(small(), journal=Journal(attempts=(done,)))).split()[0] == expected


def test_a_warming_that_has_only_been_written_down_is_carried_out() -> None:
    cold = cached_facts(query=COLD, service_pods=RESTARTED)
    begun = step(cold)
    assert isinstance(begun, Begin)
    assert type(step(cold, begun.attempt, journal=Journal(attempts=(begun.attempt,)))) is Perform


STOPPED = TaskReport(ok=False, message="stopped after 605 queries", figures={"asked": 605, "already_cached": 90})
WARMINGS: dict[str, tuple[Facts, TaskReport, str | None]] = {
    "one_that_stopped_and_helped": (cached_facts(query=GOOD), STOPPED, "Successful"),
    "one_that_stopped_and_may_help_yet": (cached_facts(query=COLD), STOPPED, None),
    "one_that_reached_nobody": (cached_facts(query=GOOD), TaskReport(ok=False, figures={"asked": 0}), "Failed"),
    "one_that_was_refused": (
        cached_facts(query=GOOD), STOPPED.model_copy(update={"refused": True}), "Blocked"),
    "one_that_never_spoke": (cached_facts(query=GOOD), TaskReport(ok=False, has_result=False), "Failed"),
}  # fmt: skip


@pytest.mark.parametrize(("snapshot", "report", "outcome"), WARMINGS.values(), ids=WARMINGS.keys())
def test_a_warming_that_stops_for_the_users_sake_is_judged_by_what_it_brought(
    snapshot: Facts, report: TaskReport, outcome: str | None
) -> None:
    begun = tried("WarmCaches", LARGER_QUERY_CACHE, 0.1)
    action = RunTask(target=Target(kind="PersistentVolumeClaim", name="demo-database", uid="uid-claim"), task="warm")
    decision = step(snapshot, begun.model_copy(update={"action": action, "report": report}))
    assert (decision.attempt.outcome if isinstance(decision, Conclude) else None) == outcome, decision


def test_thresholds_are_fields_of_the_object() -> None:
    item = {"name": RUNBOOK.name, "thresholds": {"hitRatio": 0.3, "diversity": 0.95}}
    assert type(step(cached_facts(query=HALF_HIT), is_open=False, item=item)) is Healthy
    wide = cached_facts(query=Traffic(hits=100, misses=900, evictions=550, ghost_hits=300), diversity=0.9)
    assert said(step(wide, item=item)) == "EnlargeCaches {'cache.queryEntries': 2500}"


def tried(option: str, fields: dict[str, int], query: float, model: float = 0.6) -> Attempt:
    return Attempt(
        id="demo-cache-hit-ratio-drop-0001-1",
        option=option,
        action=put(small().itself, Overlays(), fields)[0],
        claimed_by="o",
        started=minutes_ago(10),
        acted=minutes_ago(10),
        before=(
            Sli(name="query_cache_hit_ratio", value=query, unit="ratio"),
            Sli(name="model_call_ratio", value=model, unit="ratio"),
            Sli(name="error_ratio", value=0.0, unit="ratio"),
        ),
    )


LARGER_QUERY_CACHE = {"cache.queryEntries": 2500}
LARGER_EMBEDDING_CACHE = {"cache.embeddingEntries": 10_000}
BUSY_MODEL = Traffic(hits=50, misses=550)

VERDICTS: dict[str, tuple[Facts, Attempt, Effect]] = {
    "up_by_the_gain": (cached_facts(query=HALF_HIT), tried("A", LARGER_QUERY_CACHE, 0.34), Effect.BETTER),
    "up_by_less": (cached_facts(query=HALF_HIT), tried("A", LARGER_QUERY_CACHE, 0.36), Effect.PENDING),
    "down": (cached_facts(query=HALF_HIT), tried("A", LARGER_QUERY_CACHE, 0.6), Effect.PENDING),
    "fewer_calls_of_the_model": (
        cached_facts(query=HALF_HIT, embedding=BUSY_MODEL),
        tried("A", LARGER_EMBEDDING_CACHE, 0.4, model=0.61),
        Effect.BETTER,
    ),
    "a_better_query_cache_is_not_what_embeddings_were_for": (
        cached_facts(query=HALF_HIT, embedding=BUSY_MODEL),
        tried("A", LARGER_EMBEDDING_CACHE, 0.3, model=0.56),
        Effect.PENDING,
    ),
    "errors_since": (
        cached_facts(query=GOOD, error_ratio=Known(0.2, NOW)),
        tried("A", LARGER_QUERY_CACHE, 0.35),
        Effect.PENDING,
    ),
    "memory_used_up": (cached_facts(query=GOOD, anon=1900 * MIB), tried("A", LARGER_QUERY_CACHE, 0.35), Effect.WORSE),
    "not_measured": (
        cached_facts(hidden={"query_diversity": unknown()}),
        tried("A", LARGER_QUERY_CACHE, 0.35),
        Effect.UNKNOWN,
    ),
}


@pytest.mark.parametrize(("snapshot", "attempt", "effect"), VERDICTS.values(), ids=VERDICTS.keys())
def test_the_verdict(snapshot: Facts, attempt: Attempt, effect: Effect) -> None:
    assert verify(snapshot, attempt, LIMITS).effect is effect


@pytest.mark.parametrize(("query", "effect"), [(0.36, Effect.NO_CHANGE), (0.6, Effect.WORSE)])
def test_at_the_deadline_it_has_failed(query: float, effect: Effect) -> None:
    late = tried("A", LARGER_QUERY_CACHE, query).model_copy(update={"acted": minutes_ago(36)})
    assert verify(cached_facts(query=HALF_HIT), late, LIMITS).effect is effect


def judged(query: float) -> Attempt:
    done = {"finished": minutes_ago(1), "acted": minutes_ago(5)}
    return tried("EnlargeCaches", LARGER_QUERY_CACHE, query).model_copy(update=done)


def larger(anon: float) -> Facts:
    overlay = FieldOverlay(incident="i", attempt="a", at=NOW, runbook=RUNBOOK.name, value=2500, instead_of=1000)
    return replace(small(anon=anon), overlays=Overlays(fields={"cache.queryEntries": overlay}))


ESCALATED: dict[str, tuple[Facts, tuple[Attempt, ...], str | None]] = {
    "hopeless_after_an_attempt": (cached_facts(query=COLD), (judged(0.1),), "CachesDoNotHelp"),
    "hopeless_before_one": (cached_facts(query=COLD), (), None),
    "a_third_after_an_attempt": (cached_facts(query=HALF_HIT), (judged(0.1),), None),
    "misses_that_cost_much": (cached_facts(query=COLD, miss_seconds=0.15), (), "MissesCostTooMuch"),
    "misses_that_cost_little": (cached_facts(query=COLD, miss_seconds=0.1), (), None),
    "times_that_nobody_measures": (
        cached_facts(query=COLD, miss_seconds=0.25, hidden={"query_durations_by_cache": unknown()}),
        (),
        None,
    ),
    "memory_used_up_by_larger_caches": (larger(1900 * MIB), (), "CacheMemoryExhausted"),
    "memory_used_up_by_others": (small(anon=1900 * MIB), (), None),
    "larger_caches_and_memory": (larger(700 * MIB), (), None),
}


@pytest.mark.parametrize(("snapshot", "attempts", "reason"), ESCALATED.values(), ids=ESCALATED.keys())
def test_when_a_human_is_called(snapshot: Facts, attempts: tuple[Attempt, ...], reason: str | None) -> None:
    found = RUNBOOK.escalate(snapshot, incident(*attempts, runbook=RUNBOOK.name), LIMITS)
    assert (found.reason if found else None) == reason


@pytest.mark.parametrize(
    ("which", "size", "step_up"),
    [
        ("query", 100, 500),
        ("query", 1000, 2500),
        ("query", 10_000, None),
        ("embedding", 10_000, 50_000),
        ("query", 0, None),
    ],
)
def test_the_steps_of_the_runbook(which: str, size: int, step_up: int | None) -> None:
    assert next_step(which, size) == step_up


def test_memory_of_a_pod_without_a_limit_is_measured_against_the_spec() -> None:
    assert said(step(small(limit=0, anon=1740 * MIB, hidden={"memory_limit": of_pods(0)}))) == "NoOptionApplicable"
    assert said(step(small(limit=0, hidden={"memory_limit": of_pods(0)}))).startswith("EnlargeCaches")
