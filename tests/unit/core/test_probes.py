"""What probes say: each is counted once, all probers have to agree, and silence is not failure."""

from dataclasses import replace
from datetime import timedelta

import pytest

from kb_facts import NOW, facts, minutes, per_pod, pod, seconds, series
from knowledgebeast_operator.core.facts import Fact, Facts, Known, PerPod, Unknown
from knowledgebeast_operator.core.probes import PROBE_SUCCESS, PROBE_TIMESTAMP, Streak, streak
from knowledgebeast_operator.custom_resource import Spec
from probe_facts import probed

OFF = Spec.model_validate({"service": {"config": {"probeIntervalSeconds": 0}}})


def failures(at: Facts) -> Streak | Unknown:
    return streak(at, 3, lambda probe: not probe.is_answered)


def failing(bad_for: timedelta, **parts: object) -> Facts:
    return facts(series_by_name=probed(bad_for=bad_for, is_answered=False, took=5.0, **parts))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("bad_for", "is_bad", "is_good", "held"),
    [(seconds(0), False, True, 0), (seconds(20), False, False, 10), (seconds(30), True, False, 20)],
)
def test_the_last_three_decide(bad_for: timedelta, is_bad: bool, is_good: bool, held: float) -> None:
    found = failures(failing(bad_for))
    assert isinstance(found, Streak)
    assert (found.is_bad, found.is_good, found.held) == (is_bad, is_good, seconds(held))


def test_a_probe_that_several_scrapes_show_is_one() -> None:
    found = failures(failing(seconds(30), every=seconds(30)))
    assert isinstance(found, Streak)
    assert not found.is_bad
    found = failures(failing(seconds(90), every=seconds(30)))
    assert isinstance(found, Streak)
    assert found.is_bad


def test_one_prober_that_gets_nothing_may_be_cut_off_itself() -> None:
    good, bad = probed(pods=("demo-a",)), probed(bad_for=minutes(1), is_answered=False, pods=("demo-b",))
    both: dict[str, Fact[PerPod]] = {}
    for name in good:
        one, other = good[name], bad[name]
        assert isinstance(one, Known)
        assert isinstance(other, Known)
        both[name] = Known({**one.value, **other.value}, NOW)
    found = failures(facts(series_by_name=both))
    assert isinstance(found, Streak)
    assert (found.is_bad, found.is_good, found.good_for) == (False, False, seconds(0))
    assert found.shown == "50 ms, no answer"


def test_it_is_good_since_the_last_bad_one() -> None:
    recovered = failing(minutes(1))
    success = per_pod(series(lambda at: float(not NOW - minutes(1) < at <= NOW - seconds(30))))
    found = failures(replace(recovered, series_by_name={**recovered.series_by_name, PROBE_SUCCESS: success}))
    assert isinstance(found, Streak)
    assert (found.is_good, found.good_for) == (True, seconds(31))


UNKNOWN = {
    "nobody_has_asked": (facts(), "NotAsked"),
    "turned_off": (facts(series_by_name=probed(), spec=OFF), "ProbesOff"),
    "never_answered": (
        facts(series_by_name={**probed(), PROBE_TIMESTAMP: per_pod(series(0.0))}),
        "NoneAnswered",
    ),
    "no_time": (
        facts(series_by_name={**probed(), PROBE_TIMESTAMP: per_pod(series(1e18))}),
        "NoneAnswered",
    ),
    "stopped": (
        facts(series_by_name={**probed(), PROBE_TIMESTAMP: per_pod(series(NOW.timestamp() - 41))}),
        "ProbesStopped",
    ),
    "a_ready_pod_is_not_heard_of": (facts(series_by_name=probed(pods=("demo-a",))), "SeriesMissing"),
}


@pytest.mark.parametrize(("at", "reason"), UNKNOWN.values(), ids=UNKNOWN)
def test_what_says_nothing_is_unknown(at: Facts, reason: str) -> None:
    found = failures(at)
    assert isinstance(found, Unknown)
    assert found.reason == reason


def test_pods_that_are_not_ready_say_the_same_of_the_service() -> None:
    pods = Known((pod("demo-a", "uid-a", is_ready=False), pod("demo-b", "uid-b", is_terminating=True)), NOW)
    found = failures(replace(failing(minutes(1), pods=("demo-a",)), service_pods=pods))
    assert isinstance(found, Streak)
    assert found.is_bad
