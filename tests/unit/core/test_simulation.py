"""The whole life of incidents in a small world: crashes at every step, two operators, flickering signals."""

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kb_facts import policy
from kb_world import ConflictError, World, begun, concluded, escalations, run, run_tick, tick
from knowledgebeast_operator.core.decision import Begin, Healthy, Open, Perform
from knowledgebeast_operator.core.escalation_path import STILL_OPEN
from knowledgebeast_operator.core.guards import MAX_RESTARTS, RESTART_PERIOD
from knowledgebeast_operator.core.ledger import IncidentRecord, Level, Outcome
from knowledgebeast_operator.runbooks.chroma_unreachable import RUNBOOK

HOUR_OF_TICKS = 360


def only_incident(world: World) -> IncidentRecord:
    [(record, _version)] = world.store.records.values()
    return record


def test_an_hour_without_a_fault_does_nothing() -> None:
    world = World()
    run(world, HOUR_OF_TICKS)
    assert all(isinstance(decision, Healthy) for decision in world.decisions)


def test_a_hung_chroma_is_healed_by_one_restart() -> None:
    world = World()
    world.is_hung = True
    run(world, 60)
    record = only_incident(world)
    assert len(world.deletions) == 1
    assert [attempt.outcome for attempt in record.attempts] == [Outcome.SUCCESSFUL]
    assert record.escalation is None
    assert not record.is_open
    assert [entry.reason for entry in record.timeline] == [
        "IncidentDetected",
        "RemediationBegun",
        "RemediationCarriedOut",
        "RemediationSucceeded",
        "HealthyPeriod",
        "IncidentResolved",
    ]


def test_a_recurrence_gets_a_number_of_its_own() -> None:
    world = World()
    for _ in range(2):
        world.is_hung = True
        run(world, 60)
    assert sorted(world.store.records) == ["demo-chroma-unreachable-0001", "demo-chroma-unreachable-0002"]


def test_a_fault_that_clears_by_itself_is_recorded_and_nothing_is_done() -> None:
    world = World(policy=policy(pause_annotation="the operator watches only"))
    world.is_hung = True
    run(world, 6)
    world.is_hung = False
    run(world, 30)
    assert only_incident(world).resolved_at is not None
    assert world.deletions == []


@pytest.mark.parametrize("probe_wait", [10, 30])
@pytest.mark.parametrize("crashed_for", range(1, 9))
def test_what_the_kubelet_restarts_is_not_restarted_again(crashed_for: int, probe_wait: int) -> None:
    """Also when the service, whose breaker is open, has not asked the new container yet."""
    world = World(longest_probe_wait=timedelta(seconds=probe_wait))
    world.is_crashed = True
    run(world, crashed_for)
    world.start_again()
    run(world, 40)
    assert begun(world) == 0
    assert not any(record.is_open for record, _ in world.store.records.values())


def test_a_broken_index_ends_in_one_escalation_and_closes_when_a_human_has_cured_it() -> None:
    world = World(restart_cures=False)
    world.is_hung = True
    run(world, 3 * HOUR_OF_TICKS)
    assert len(world.deletions) == RUNBOOK.limits.max_attempts
    assert escalations(world) == 1
    assert only_incident(world).is_open
    world.is_hung = False
    run(world, 60)
    assert not only_incident(world).is_open
    assert len(world.deletions) == RUNBOOK.limits.max_attempts


def test_unknown_signals_after_the_restart_are_never_a_success() -> None:
    world = World()
    world.is_hung = True
    while not world.deletions:
        run(world, 1)
    world.has_signals = False
    run(world, 60)
    assert [attempt.outcome for attempt in only_incident(world).attempts] == [Outcome.INCONCLUSIVE]
    assert escalations(world) == 1
    assert only_incident(world).is_open


@pytest.mark.parametrize("dies_at", ["decided", "acted", "written"])
@pytest.mark.parametrize("death", range(24))
def test_an_operator_that_dies_at_any_point_of_any_tick_heals_with_one_restart(death: int, dies_at: str) -> None:
    world = World()
    world.is_hung = True
    for number in range(50):
        if number == death:
            run_tick(world, f"operator-{number}", dies_at=dies_at)
        else:
            run_tick(world, "operator-a" if number < death else "operator-b")
        world.advance()
    assert len(world.deletions) == 1
    assert [attempt.outcome for attempt in only_incident(world).attempts] == [Outcome.SUCCESSFUL]
    assert not only_incident(world).is_open


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(["decided", "acted", "written", None, None]), min_size=20, max_size=60))
def test_an_operator_that_keeps_dying_never_acts_twice_on_one_pod(deaths: list[str | None]) -> None:
    world = World()
    world.is_hung = True
    for dies_at in deaths:
        run_tick(world, dies_at=dies_at)
        world.advance()
    run(world, 90)
    assert len({uid for uid, _ in world.deletions}) == len(world.deletions) == 1
    assert not only_incident(world).is_open


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=60, max_size=60))
def test_of_two_operators_one_loses_every_claim(order: list[int]) -> None:
    """Both run at once, interleaved in any way: each attempt has one effect, and no record is written over."""
    world = World()
    world.is_hung = True
    for interleaving in order:
        ticks = {name: tick(world, name) for name in ("operator-a", "operator-b")}
        bits = [(interleaving >> shift) & 1 for shift in range(3)] + [0, 0, 0, 1, 1, 1]
        for bit in bits:
            name = ("operator-a", "operator-b")[bit]
            try:
                next(ticks[name], None)
            except ConflictError:
                ticks[name].close()
        world.advance()
    effects = [uid for uid, _ in world.deletions]
    targets = [attempt.action.target.uid for record, _ in world.store.records.values() for attempt in record.attempts]
    assert effects == targets == ["uid-chroma-1"]


def check_calls(record: IncidentRecord) -> None:
    """One call for a reason, and one for each level."""
    levels = [one.level for one in record.escalations]
    assert levels == list(Level)[: len(levels)]
    told = [entry.message for entry in record.timeline if entry.reason == "IncidentEscalated"]
    by_the_clock = [message for message in told if message.startswith(STILL_OPEN)]
    assert len(by_the_clock) <= len(levels)
    assert len(told) - len(by_the_clock) <= 1


EVENTS = ["hang", "heal", "blind", "see", "incurable", "curable", "pause", "resume", "disable", "dry run", "enforce"]
event = st.tuples(st.sampled_from(EVENTS), st.integers(1, 30))


def happen(world: World, what: str) -> None:
    match what:
        case "hang" | "heal":
            world.is_hung = what == "hang"
        case "blind" | "see":
            world.has_signals = what == "see"
        case "incurable" | "curable":
            world.restart_cures = what == "curable"
        case _:
            world.policy = {
                "pause": policy(pause_annotation="work"),
                "disable": policy(mode="Disabled"),
                "dry run": policy(mode="DryRun"),
            }.get(what, policy())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example([("disable", 1), ("hang", 20)])
@example([("pause", 1), ("hang", 20)])
@example([("dry run", 1), ("hang", 20)])
@example([("hang", 4), ("disable", 20)])
@example([("hang", 4), ("blind", 20)])
@example([("incurable", 1), ("hang", 30), ("heal", 30), ("hang", 30), ("heal", 30), ("hang", 30), ("heal", 30)] * 3)
@given(st.lists(event, min_size=3, max_size=25))
def test_whatever_happens(events: list[tuple[str, int]]) -> None:
    world = World()
    for what, ticks in events:
        happen(world, what)
        for _ in range(ticks):
            before = world.store.latest()
            run_tick(world)
            decision = world.decisions[-1]
            if isinstance(decision, Begin | Perform):
                assert world.has_signals, "unknown facts never begin or perform anything"
                assert world.policy == policy(), "paused, disabled and dry run never begin or perform anything"
            if isinstance(decision, Begin):
                assert before is not None
                assert before[0].attempt_in_flight is None, "never two attempts in flight"
            world.advance()
    for record, _version in world.store.records.values():
        real = [attempt for attempt in record.attempts if attempt.outcome is not Outcome.DRY_RUN]
        assert len(real) <= RUNBOOK.limits.max_attempts
        check_calls(record)
        assert len(record.timeline) <= 50
    for uid, at in world.deletions:
        within = [other for _, other in world.deletions if timedelta(0) <= other - at <= RESTART_PERIOD]
        assert len(within) <= MAX_RESTARTS, f"restarts in the hour after {uid}"


def test_a_flickering_chroma_is_restarted_three_times_an_hour_at_most() -> None:
    world = World()
    for _ in range(60):
        world.is_hung = True
        run(world, 12)
        world.is_hung = False
        run(world, 24)
    times = [at for _, at in world.deletions]
    assert max(sum(at - RESTART_PERIOD < other <= at for other in times) for at in times) == MAX_RESTARTS
    assert begun(world) == len(times)
    for record, _ in world.store.records.values():
        check_calls(record)


@pytest.mark.parametrize("what", ["disable", "pause", "dry run", "blind"])
@pytest.mark.parametrize("ticks", range(12))
def test_whenever_it_is_stopped_nothing_more_is_done(ticks: int, what: str) -> None:
    """Also between the intent and the action."""
    world = World()
    world.is_hung = True
    run(world, ticks)
    done = len(world.deletions)
    happen(world, what)
    run(world, 30)
    assert len(world.deletions) == done


def test_a_dry_run_is_written_down_once() -> None:
    world = World(policy=policy(mode="DryRun"))
    world.is_hung = True
    run(world, 60)
    assert [conclusion.attempt.outcome for conclusion in concluded(world)] == [Outcome.DRY_RUN]
    assert world.deletions == []
    assert sum(isinstance(decision, Open) for decision in world.decisions) == 1
