import pytest

from harness.errors import NotMetError
from harness.wait import stays, wait_for


def test_returns_the_first_value_that_is_true() -> None:
    values = iter([None, 0, "ready"])

    assert wait_for("it", lambda: next(values), timeout=5, interval=0.01) == "ready"


def test_says_what_it_waited_for_what_it_saw_and_why() -> None:
    with pytest.raises(NotMetError, match=r"waited 0 s for a pod; last seen: \[\]\nevents: none"):
        wait_for("a pod", list[str], timeout=0, explain=lambda: "events: none")


def test_a_condition_that_ends_is_reported() -> None:
    values = iter([True, True, False])

    with pytest.raises(NotMetError, match="no deletion"):
        stays("no deletion", lambda: next(values), seconds=5, interval=0.01)
