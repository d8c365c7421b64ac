"""Chroma as the service pods see it: the circuit breaker and the canaries of each, read together.

Either signal is enough for bad, both are needed for good. What is missing, old or contradicted is unknown: a canary
loop that has stopped must not look healthy, and a breaker must not stay open against canaries that succeed.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from knowledgebeast_operator.core.facts import Facts, Pod, Unknown
from knowledgebeast_operator.core.series import fresh_series, is_young, longest_gap, ready_pods, run_length

BREAKER: Final = "kb_chroma_breaker_state"
CANARY: Final = "kb_canary_success_ratio"
CANARY_TIME: Final = "kb_canary_timestamp_seconds"
DEGRADED: Final = "kb_degraded_mode"

CANARY_MINIMUM: Final = 0.95
"""19 of 20 canaries: an approximate index may miss one."""

MISSED_ROUNDS: Final = 3
"""A canary loop that is later than this many rounds has stopped."""


@dataclass(frozen=True, slots=True)
class View:
    """What one service pod says about Chroma, and for how long it has said so at least."""

    pod: str
    is_bad: bool
    held: timedelta
    breaker: float
    canary: float
    last_round: float  # Unix time of the last finished canary round


@dataclass(frozen=True, slots=True)
class Views:
    """One view per ready service pod that can be heard; at least one."""

    by_pod: tuple[View, ...]

    @property
    def bad(self) -> tuple[View, ...]:
        return tuple(view for view in self.by_pod if view.is_bad)

    @property
    def held(self) -> timedelta:
        """For how long all of them have said the same, at least."""
        return min(view.held for view in self.by_pod)

    @property
    def first_round(self) -> float:
        """Unix time until which every pod has finished a canary round."""
        return min(view.last_round for view in self.by_pod)

    @property
    def worst_breaker(self) -> float:
        return max(view.breaker for view in self.by_pod)

    @property
    def worst_canary(self) -> float:
        return min(view.canary for view in self.by_pod)


@dataclass(frozen=True, slots=True)
class Unknowns:
    """Why nothing can be said; at least one reason."""

    reasons: tuple[Unknown, ...]


def is_not_closed(breaker: float) -> bool:
    """Half-open counts: the breaker gets there from open only, and is there while it probes."""
    return breaker >= 1


def is_closed(breaker: float) -> bool:
    return breaker < 1


def canaries_fail(ratio: float) -> bool:
    return ratio < CANARY_MINIMUM


def canaries_succeed(ratio: float) -> bool:
    return ratio >= CANARY_MINIMUM


def view_all(facts: Facts) -> Views | Unknowns:
    """What each ready service pod says. A pod too young to be heard of is left out while others speak."""
    pods = ready_pods(facts.service_pods, "service")
    if isinstance(pods, Unknown):
        return Unknowns((pods,))
    views: list[View] = []
    silent: list[Unknown] = []
    young: list[Unknown] = []
    for pod in pods:
        match view(facts, pod):
            case View() as seen:
                views.append(seen)
            case Unknown() as unknown if is_young(pod, facts.now):
                young.append(unknown)
            case Unknown() as unknown:
                silent.append(unknown)
    if silent or not views:
        return Unknowns(tuple(silent or young))
    return Views(tuple(views))


def view(facts: Facts, pod: Pod) -> View | Unknown:
    """One pod's breaker and canaries. Either of them is enough for bad, both are needed for good."""
    breaker = fresh_series(facts.breaker_state, BREAKER, pod.name, facts)
    canary = fresh_series(facts.canary_success_ratio, CANARY, pod.name, facts)
    rounds = fresh_series(facts.canary_timestamp, CANARY_TIME, pod.name, facts)
    if isinstance(breaker, Unknown):
        return breaker
    if isinstance(canary, Unknown):
        return canary
    if isinstance(rounds, Unknown):
        return rounds
    gap = longest_gap(facts)
    open_for = run_length(breaker.value, is_not_closed, gap)
    failing_for = run_length(canary.value, canaries_fail, gap)
    last_round = rounds.value[-1].value
    frozen = _frozen(facts, pod, last_round)
    values = (breaker.value[-1].value, canary.value[-1].value, last_round)
    if open_for is not None:
        opened = (breaker.at - open_for).timestamp()
        if frozen is None and failing_for is None and last_round > opened:
            message = f"The breaker of pod {pod.name} is open, but canaries succeeded after it had opened."
            return Unknown(CANARY, "SignalsDisagree", message)
        return View(pod.name, True, max(open_for, failing_for or open_for), *values)
    if frozen is not None:
        return frozen
    if failing_for is not None:
        return View(pod.name, True, failing_for, *values)
    closed_for = run_length(breaker.value, is_closed, gap) or timedelta(0)
    succeeding_for = run_length(canary.value, canaries_succeed, gap) or timedelta(0)
    return View(pod.name, False, min(closed_for, succeeding_for), *values)


def _frozen(facts: Facts, pod: Pod, last_round: float) -> Unknown | None:
    """Late rounds, and rounds of a clock that is so far ahead that lateness cannot be seen."""
    oldest = MISSED_ROUNDS * (facts.canary_interval + facts.scrape_interval)
    age_seconds = facts.now.timestamp() - last_round
    if abs(age_seconds) <= oldest.total_seconds():
        return None
    message = (
        f"The last canary round of pod {pod.name} ended {age_seconds:.0f} s ago, more than "
        f"{oldest.total_seconds():.0f} s: its loop has stopped."
    )
    return Unknown(CANARY_TIME, "CanaryStopped", message)
