"""How soon the next look follows."""

from datetime import timedelta

import pytest

from knowledgebeast_operator.core.decision import Blocked, Decision, Healthy, Uncertain, Wait
from knowledgebeast_operator.core.pace import Pace

WELL = Healthy("well")
SCRAPE = timedelta(seconds=8)


def pause(*decisions: Decision, is_eager: bool = False, is_applied: bool = True, scrape: timedelta = SCRAPE) -> float:
    found = Pace.after(decisions, is_eager=is_eager, is_applied=is_applied, scrape_interval=scrape)
    return found.seconds(5)


def test_a_calm_object_waits_for_the_next_samples() -> None:
    assert pause(WELL, WELL) == 8


@pytest.mark.parametrize(("scrape", "seconds"), [(2, 5), (5, 5), (30, 10)])
def test_it_waits_no_less_than_usual_and_no_more_than_twice_as_long(scrape: int, seconds: int) -> None:
    assert pause(WELL, scrape=timedelta(seconds=scrape)) == seconds


@pytest.mark.parametrize("other", [Uncertain("no signal"), Wait("Holding", "bad for 3 s"), Blocked("Paused", "no")])
def test_what_is_wrong_or_unknown_is_looked_at_as_usual(other: Decision) -> None:
    assert pause(WELL, other, WELL) == 5


def test_what_had_to_be_applied_is_looked_at_as_usual() -> None:
    assert pause(WELL, is_applied=False) == 5


def test_what_has_begun_or_ended_is_looked_at_at_once() -> None:
    assert pause(WELL, is_eager=True) == 0
