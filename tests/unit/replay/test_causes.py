"""One symptom, several causes (incidents 1 and 3 to 7): each has its own cure, and no other one is tried before it.

The world reports everything here, so that all runbooks have something to judge, and it is looked at twice a minute.
"""

from collections import defaultdict
from typing import Final

import pytest

from answer_facts import answers
from cache_facts import DIVERSE, Traffic
from knowledgebeast_operator import runbooks
from knowledgebeast_operator.core.decision import Begin
from knowledgebeast_operator.core.facts import Facts
from knowledgebeast_operator.core.ledger import IncidentRecord, Outcome
from knowledgebeast_operator.custom_resource import Spec
from knowledgebeast_operator.signals.queries import QUERIES
from replay import Replay, Trap, check, story
from replay_faults import Case
from replay_load_faults import LOAD_CASES
from replay_service import ServiceFault, ServiceWorld
from replay_service_faults import SERVICE_CASES
from replay_signals import each, histogram, met
from replay_traps import BLINDING, MISLEADING

LOADED: Final = runbooks.load()
CASES: Final = {**LOAD_CASES, **SERVICE_CASES}
CURED: Final = {name: case for name, case in CASES.items() if case.attempts and case.is_cured}
LOOK: Final = "ProfileHeap"
TEN_MINUTES, FORTY_MINUTES, AN_HOUR, LONG_ENOUGH = 20, 80, 120, 180
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
each_cured = pytest.mark.parametrize("case", CURED.values(), ids=CURED.keys())
each_blinding = pytest.mark.parametrize("trap", BLINDING.values(), ids=BLINDING.keys())
each_trap = pytest.mark.parametrize("trap", {**BLINDING, **MISLEADING}.values(), ids={**BLINDING, **MISLEADING}.keys())


def replay_of(case: Case, *, alone: bool = False) -> Replay:
    """With all runbooks, or its own one alone."""
    loaded = tuple(runbook for runbook in LOADED if not alone or runbook.name == case.runbook)
    replay = Replay(ServiceWorld(spec=Spec.model_validate(case.spec)), loaded)
    replay.world.fault = case.fault
    return replay


def tried(record: IncidentRecord) -> tuple[str, ...]:
    return tuple(line for line in story(record) if not line.startswith("Escalated"))


def begun(replay: Replay) -> list[str]:
    """What was begun, but for the profile: that looks at a rise of memory, also at one that was not seen."""
    return [attempt.option for attempt in replay.attempts if attempt.option != LOOK]


def is_over(replay: Replay) -> bool:
    return bool(replay.records) and not any(record.is_open for record in replay.records.values())


def played(case: Case, trap: Trap = lambda facts: facts) -> Replay:
    """Until it is over, or for so long that it will not be."""
    replay = replay_of(case)
    for _ in range((LONG_ENOUGH if case.is_cured else FORTY_MINUTES) // 5):
        replay.run(5, trap)
        if is_over(replay):
            break
    check(replay)
    return replay


def assert_it_ended_well(replay: Replay, case: Case) -> None:
    [record] = replay.of(case.runbook)
    assert tried(record) == case.attempts
    assert record.is_open != case.is_cured
    assert case.is_cured or record.escalation is not None
    assert [item for item in replay.records.values() if item is not record and item.attempts] == []


def test_the_world_reports_every_signal() -> None:
    facts = ServiceWorld().facts()
    told = {*facts.series_by_name, *facts.rows_by_name, *Facts.__dataclass_fields__}
    assert [query.name for query in QUERIES if query.name not in told] == []


def test_the_first_option_that_helps_is_another_one_for_another_cause() -> None:
    """Otherwise who always did the same would pass."""
    cures: defaultdict[str, set[str]] = defaultdict(set)
    for case in CURED.values():
        cures[case.runbook].add(next(line.split()[0] for line in case.attempts if line.endswith("Successful")))
    few = {runbook: helped for runbook, helped in cures.items() if len(helped) < 2}
    assert few == {"APIErrorRateSpike": {"RollBack"}}, "its other option of a cause only looks"


@each_case
def test_a_cause_is_cured_by_its_option_or_ends_with_a_human(case: Case) -> None:
    assert_it_ended_well(played(case), case)


@each_cured
def test_samples_that_come_twice_change_nothing(case: Case) -> None:
    assert_it_ended_well(played(case, MISLEADING["every sample comes twice"]), case)


@each_blinding
@each_case
def test_nothing_is_done_while_it_is_unknown_and_the_right_thing_afterwards(case: Case, trap: Trap) -> None:
    replay = replay_of(case, alone=True).run(TEN_MINUTES, trap)
    check(replay)
    assert replay.acts == []
    first = next((line.split()[0] for line in case.attempts if not line.startswith(LOOK)), None)
    for _ in range(AN_HOUR if first is not None else TEN_MINUTES):
        replay.run(1)
        if begun(replay):
            break
    check(replay)
    assert begun(replay) == ([first] if first is not None else [])


@each_cured
def test_what_turns_unknown_meanwhile_is_never_a_success(case: Case) -> None:
    replay = replay_of(case, alone=True).run_until(Begin, most=AN_HOUR)
    before = {attempt.id for attempt in replay.attempts}
    replay.run(AN_HOUR, BLINDING["prometheus is down"])
    check(replay)
    assert {attempt.id for attempt in replay.attempts} == before
    [record] = replay.of(case.runbook)
    assert record.is_open
    assert record.escalation is not None or record.escalations
    assert all(attempt.outcome is not Outcome.SUCCESSFUL for attempt in record.attempts)


NOBODY: Final = Traffic(0, 0)
IDLE: Final = {
    "answers": (),
    "query_durations": histogram(0),
    "query_durations_recent": histogram(0),
    **met(NOBODY, NOBODY),
}
QUIET: Final = {
    "nothing": ServiceFault(),
    "nobody asks anything": ServiceFault(rows=IDLE),
    "clients ask what is refused": ServiceFault(rows={"answers": answers(300, client=200)}),
    "a few errors": ServiceFault(rows={"answers": answers(499, server=1)}),
    "a few slow answers": ServiceFault(
        rows={"query_durations": histogram(1000, 5), "query_durations_recent": histogram(400, 3)}
    ),
    "few queries and all of them slow": ServiceFault(
        rows={"query_durations": histogram(20, 20), "query_durations_recent": histogram(8, 8)}
    ),
    "queries that never come again": ServiceFault(rows={**met(DIVERSE), "query_diversity": each(0.9)}),
    "a release that is well": ServiceFault(release="registry/kb:3"),
    "a volume that lasts for days": ServiceFault(used={"database": lambda seconds: 4e9 + 1e8 * seconds / 3600}),
    "less than half of the memory is used": ServiceFault(memory=lambda seconds: 1e9),
}


@pytest.mark.parametrize("fault", QUIET.values(), ids=QUIET.keys())
def test_nothing_is_done_where_nothing_is_wrong(fault: ServiceFault) -> None:
    replay = Replay(ServiceWorld(), LOADED).run(5)
    replay.world.fault = fault
    replay.run(AN_HOUR)
    check(replay)
    assert replay.acts == []
    assert [record.escalation for record in replay.records.values() if record.escalation is not None] == []


@each_trap
def test_nothing_is_done_where_nothing_is_wrong_whatever_the_signals_do(trap: Trap) -> None:
    replay = Replay(ServiceWorld(), LOADED).run(10).run(FORTY_MINUTES, trap).run(10)
    check(replay)
    assert replay.records == {}
