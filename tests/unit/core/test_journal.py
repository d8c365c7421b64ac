"""What is remembered of attempts, and what counts against which limit."""

from datetime import timedelta

import pytest

from kb_facts import NOW, attempt, error_ratio, failed, minutes, restart, seconds, worse
from knowledgebeast_operator.core.journal import (
    MAX_ATTEMPTS,
    actions_since,
    consecutive_worse,
    in_flight_on,
    merge,
    restarts_since,
)
from knowledgebeast_operator.core.ledger import Journal, Outcome, Sli
from knowledgebeast_operator.core.regression import made_worse, worsened

HOUR_AGO = NOW - timedelta(hours=1)


def journal(*attempts: object) -> Journal:
    return Journal.model_validate({"attempts": attempts})


def test_an_attempt_that_ended_replaces_itself_in_flight() -> None:
    begun = attempt(1, started=NOW - minutes(10))
    [kept] = merge(journal(begun), [failed(1)], NOW).attempts
    assert kept.outcome is Outcome.FAILED


def test_an_old_read_of_an_incident_does_not_bring_an_attempt_back_in_flight() -> None:
    [kept] = merge(journal(failed(1)), [attempt(1, started=NOW - minutes(10))], NOW).attempts
    assert kept.outcome is Outcome.FAILED


def test_merging_twice_changes_nothing() -> None:
    once = merge(journal(failed(1)), [failed(2, ago=minutes(5))], NOW)
    assert merge(once, [failed(2, ago=minutes(5))], NOW) == once


def test_ids_come_again_when_people_delete_incidents() -> None:
    kept = merge(journal(failed(1, ago=minutes(50))), [failed(1, ago=minutes(10))], NOW)
    assert len(restarts_since(kept, HOUR_AGO, "demo-chroma-0")) == 2


def test_the_store_may_cut_fractions_of_a_second() -> None:
    exact = failed(1).model_copy(update={"started": NOW - minutes(10) + timedelta(microseconds=700)})
    assert len(merge(journal(failed(1)), [exact], NOW).attempts) == 1


def test_what_is_older_than_any_budget_is_forgotten() -> None:
    assert merge(journal(failed(1, ago=timedelta(hours=27))), [], NOW).attempts == ()


def test_what_made_things_worse_last_is_not_forgotten() -> None:
    assert len(merge(journal(worse(1, ago=timedelta(days=9))), [], NOW).attempts) == 1


def test_it_does_not_grow_without_end() -> None:
    many = [failed(n, ago=minutes(300 - n)) for n in range(200)]
    kept = merge(Journal(), many, NOW).attempts
    assert len(kept) == MAX_ATTEMPTS
    assert kept[-1] == many[-1]


def test_an_action_counts_until_an_hour_after_its_last_possible_moment() -> None:
    acted = failed(1, ago=minutes(61), finished=NOW - minutes(59))
    assert actions_since(journal(acted), HOUR_AGO) == (acted,)


def test_an_attempt_in_flight_counts_as_an_action() -> None:
    assert len(restarts_since(journal(attempt()), HOUR_AGO, "demo-chroma-0")) == 1


def test_restarts_of_another_pod_do_not_count() -> None:
    assert restarts_since(journal(failed()), HOUR_AGO, "other-chroma-0") == ()


def test_a_target_is_busy_by_uid_or_name() -> None:
    busy = journal(attempt())
    assert in_flight_on(busy, restart("another-uid").target) is not None
    assert in_flight_on(journal(failed()), restart().target) is None


def test_a_row_of_harm_is_broken_by_an_attempt_that_did_none() -> None:
    rows = journal(worse(1, ago=minutes(30)), failed(2, ago=minutes(20)), worse(3, ago=minutes(10)))
    assert [a.id[-1] for a in consecutive_worse(rows, None)] == ["3"]


def test_a_dry_run_does_not_break_a_row_of_harm() -> None:
    dry = attempt(2, outcome=Outcome.DRY_RUN, finished=NOW - minutes(15), started=NOW - minutes(15))
    rows = journal(worse(1, ago=minutes(30)), dry, worse(3, ago=minutes(10)))
    assert [a.id[-1] for a in consecutive_worse(rows, None)] == ["1", "3"]


def test_a_human_forgives_what_was_before() -> None:
    assert consecutive_worse(journal(worse(1), worse(2)), NOW - seconds(1)) == ()


def test_worse_needs_more_than_ten_percent_and_more_than_noise() -> None:
    assert worsened((error_ratio(0.20),), (error_ratio(0.22),)) == ()
    assert len(worsened((error_ratio(0.20),), (error_ratio(0.23),))) == 1
    assert worsened((error_ratio(0.0),), (error_ratio(0.01),)) == ()


def test_a_higher_share_of_canaries_is_better() -> None:
    low, high = (error_ratio(0).model_copy(update={"name": "chroma_available", "value": v}) for v in (0.5, 1.0))
    assert worsened((low,), (high,)) == ()
    assert worsened((high,), (low,)) == ((high, low),)


@pytest.mark.parametrize(("before", "after", "is_worse"), [
    (0.5, 0.4, False), (0.5, 0.2, False), (0.5, 0.15, True),  # two samples of a torn collection differ
    (1.0, 0.95, False), (1.0, 0.85, True), (0.0, 0.0, False),
])  # fmt: skip
def test_twenty_random_canaries_are_no_exact_measure(before: float, after: float, is_worse: bool) -> None:
    canaries = [error_ratio(0).model_copy(update={"name": "chroma_available", "value": v}) for v in (before, after)]
    assert bool(worsened((canaries[0],), (canaries[1],))) is is_worse


def test_what_was_measured_once_is_not_compared() -> None:
    assert worsened((), (error_ratio(1.0),)) == ()


def test_a_success_made_nothing_worse() -> None:
    assert made_worse(worse())
    assert not made_worse(worse(outcome=Outcome.SUCCESSFUL))


@pytest.mark.parametrize(("before", "after", "is_worse"), [(0, 2, True), (1, 2, False), (2, 1, False), (0, 1, False)])
def test_a_breaker_that_goes_on_probing_is_not_worse(before: float, after: float, is_worse: bool) -> None:
    """0 closed, 1 half-open, 2 open: between two probes it goes from half-open to open and back."""

    def breaker(value: float) -> Sli:
        return Sli(name="breaker_state", value=value, unit="state")

    assert bool(worsened((breaker(before),), (breaker(after),))) is is_worse
