import pytest

from knowledgebeast_service.resilience.breaker import BreakerState, CircuitBreaker
from knowledgebeast_service.resilience.bulkhead import Bulkhead, BulkheadFullError
from knowledgebeast_service.resilience.retry import JITTER, backoff_seconds

LONGEST = 30.0


def breaker(changes: list[BreakerState] | None = None) -> CircuitBreaker:
    seen: list[BreakerState] = [] if changes is None else changes
    return CircuitBreaker(lambda: 3, lambda: LONGEST, lambda state, _reason: seen.append(state))


def test_opens_at_the_third_consecutive_failure() -> None:
    changes: list[BreakerState] = []
    subject = breaker(changes)
    for _ in range(2):
        subject.record_failure("timed out")
    assert subject.is_closed
    subject.record_failure("timed out")
    assert (subject.state, subject.reason, changes) == (BreakerState.OPEN, "timed out", [BreakerState.OPEN])


def test_a_success_in_between_starts_the_count_again() -> None:
    subject = breaker()
    for _ in range(5):
        subject.record_failure("x")
        subject.record_failure("x")
        subject.record_success()
    assert subject.is_closed


def test_a_straggler_that_succeeds_does_not_close_it() -> None:
    subject = breaker()
    subject.trip("canaries")
    subject.record_success()
    assert subject.state is BreakerState.OPEN


def test_a_probe_closes_it() -> None:
    changes: list[BreakerState] = []
    subject = breaker(changes)
    subject.trip("canaries")
    subject.begin_probe()
    subject.probe_succeeded()
    assert changes == [BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.CLOSED]
    assert subject.reason == ""


def test_waits_double_up_to_the_longest_and_start_again_after_a_recovery() -> None:
    subject = breaker()
    subject.trip("x")
    waits: list[float] = []
    for _ in range(8):
        waits.append(subject.probe_wait())
        subject.begin_probe()
        subject.probe_failed("still away")
    for wait, full in zip(waits, (1, 2, 4, 8, 16, 30, 30, 30), strict=True):
        assert full * (1 - JITTER) <= wait <= full
    subject.probe_succeeded()
    subject.trip("x")
    assert subject.probe_wait() <= 1


def test_failures_while_open_do_not_reset_the_probes() -> None:
    subject = breaker()
    subject.trip("x")
    subject.probe_failed("y")
    for _ in range(10):
        subject.record_failure("late time-out")
    assert subject.probe_wait() > 1


def test_backoff_does_not_overflow() -> None:
    assert backoff_seconds(10_000, longest=30) <= 30


def test_a_full_bulkhead_refuses_at_once_and_frees_its_place_after_an_error() -> None:
    bulkhead = Bulkhead(1)
    with bulkhead.enter(), pytest.raises(BulkheadFullError), bulkhead.enter():
        pass
    with pytest.raises(RuntimeError), bulkhead.enter():
        raise RuntimeError
    with bulkhead.enter():
        pass
