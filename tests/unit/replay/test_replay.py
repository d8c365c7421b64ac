"""Series of facts, played to all runbooks at once without a cluster: faults, each with every way in which signals fail.

`check` holds for every replay: no act on what is unknown, no more attempts, restarts and actions than allowed, one at a
time on one target, one call to a human for an incident.
"""

import pytest

from kb_facts import policy
from knowledgebeast_operator import runbooks
from knowledgebeast_operator.core.decision import Begin, Open
from knowledgebeast_operator.core.ledger import Outcome
from replay import Replay, Trap, check, story
from replay_faults import CASES, DATABASE, Case
from replay_traps import BLINDING, MISLEADING
from replay_world import World

LOADED = runbooks.load()
HOUR = 360
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
each_trap = pytest.mark.parametrize("trap", {**BLINDING, **MISLEADING}.values(), ids={**BLINDING, **MISLEADING}.keys())
each_blinding = pytest.mark.parametrize("trap", BLINDING.values(), ids=BLINDING.keys())


def replay_of(case: Case | None = None) -> Replay:
    return Replay(World(fault=case.fault if case else None), LOADED)


@each_case
def test_a_fault_is_cured_by_its_option_or_ends_with_a_human(case: Case) -> None:
    replay = replay_of(case).run(HOUR)
    check(replay)
    [record] = replay.records.values()
    assert record.runbook == case.runbook
    assert tuple(line for line in story(record) if not line.startswith("Escalated")) == case.attempts
    assert record.is_open != case.is_cured
    assert case.is_cured or record.escalation is not None


@each_trap
def test_without_a_fault_nothing_is_done_whatever_the_signals_do(trap: Trap) -> None:
    replay = replay_of().run(30).run(60, trap).run(30)
    check(replay)
    assert replay.records == {}


@each_blinding
@each_case
def test_nothing_is_done_about_what_is_unknown(case: Case, trap: Trap) -> None:
    replay = replay_of(case)
    replay.world.fault = None
    replay.run(12, trap)
    replay.world.fault = case.fault
    replay.run(60, trap)
    check(replay)
    assert replay.records == {}


@each_case
def test_nothing_is_sent_when_it_clears_at_the_last_moment(case: Case) -> None:
    """Between the intent and the action the signals are asked again."""
    replay = replay_of(case)
    if not case.attempts:
        return
    replay.run_until(Begin)
    replay.world.fault = None
    replay.run(60)
    check(replay)
    remedies = [attempt for _, attempt in replay.world.done if attempt.option != "CheckIntegrity"]
    assert remedies == []
    assert {attempt.outcome for attempt in replay.attempts} <= {Outcome.BLOCKED, Outcome.DIAGNOSED}
    assert not any(record.is_open for record in replay.records.values())


@pytest.mark.parametrize(("bad", "good"), [(1, 1), (4, 1), (4, 6), (8, 20)])
@each_case
def test_flapping_around_the_threshold_ends_in_a_call_or_in_quiet(case: Case, bad: int, good: int) -> None:
    replay = replay_of()
    for _ in range(120 // (bad + good)):
        replay.world.fault = case.fault
        replay.run(bad)
        replay.world.fault = None
        replay.run(good)
    replay.run(30)
    check(replay)
    assert not any(record.is_open and record.escalation is None for record in replay.records.values())


@pytest.mark.parametrize("away", [1, 30])
@each_case
def test_an_operator_that_was_away_takes_up_where_things_are(case: Case, away: int) -> None:
    replay = replay_of(case).run_until(Open)
    for _ in range(away):
        replay.world.advance()
    replay.run(200)
    check(replay)
    [record] = replay.records.values()
    assert record.is_open != case.is_cured
    assert case.is_cured or record.escalation is not None


@each_blinding
@each_case
def test_what_turns_unknown_meanwhile_is_never_a_success(case: Case, trap: Trap) -> None:
    replay = replay_of(case).run_until(Begin if case.attempts else Open)
    replay.run(100, trap)
    check(replay)
    [record] = replay.records.values()
    assert record.is_open
    assert all(attempt.outcome is not Outcome.SUCCESSFUL for attempt in record.attempts)
    assert record.escalation is not None or record.runbook == DATABASE, "its clock is the RTO of four hours"


@each_case
def test_two_pods_that_disagree_about_chroma_are_not_believed(case: Case) -> None:
    replay = replay_of(case).run(60, MISLEADING["the pods disagree"])
    check(replay)
    assert [record for record in replay.records.values() if record.runbook == "ChromaUnreachable"] == []


@pytest.mark.parametrize("mode", ["Disabled", "DryRun"])
@each_case
def test_an_operator_that_may_not_act_does_not(case: Case, mode: str) -> None:
    replay = Replay(World(fault=case.fault), LOADED, policy(mode=mode)).run(120)
    check(replay)
    assert replay.world.done == []
    assert [record.runbook for record in replay.records.values()] == [case.runbook]
