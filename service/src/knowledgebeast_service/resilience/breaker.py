"""Circuit breaker without a clock or a task of its own (Nygard, *Release It!*).

closed ──N consecutive failures, or `trip`──► open ──`begin_probe`──► half-open ──success──► closed
                                               ▲                          │
                                               └────── failure, longer wait ┘

User traffic never probes: whoever owns the breaker runs the probes and asks `probe_wait` how long to wait before the
next one. That keeps an outage invisible in the latency of queries.
"""

from collections.abc import Callable
from enum import IntEnum

from knowledgebeast_service.resilience.retry import backoff_seconds


class BreakerState(IntEnum):
    """Values of kb_chroma_breaker_state."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class CircuitBreaker:
    """Counts failures and decides whether to call; `on_change` is called after every change of state."""

    def __init__(
        self,
        failures_to_open: Callable[[], int],
        longest_wait_seconds: Callable[[], float],
        on_change: Callable[[BreakerState, str], None] = lambda _state, _reason: None,
    ) -> None:
        self._failures_to_open = failures_to_open
        self._longest_wait_seconds = longest_wait_seconds
        self._on_change = on_change
        self._consecutive_failures = 0
        self._failed_probes = 0
        self.state = BreakerState.CLOSED
        self.reason = ""

    @property
    def is_closed(self) -> bool:
        return self.state is BreakerState.CLOSED

    def record_success(self) -> None:
        """A call of user traffic succeeded. A straggler from before the opening must not close the breaker."""
        if self.is_closed:
            self._consecutive_failures = 0

    def record_failure(self, reason: str) -> None:
        """A call of user traffic failed or passed its deadline."""
        self._consecutive_failures += 1
        if self.is_closed and self._consecutive_failures >= self._failures_to_open():
            self.trip(reason)

    def trip(self, reason: str) -> None:
        """Open now."""
        if self.state is BreakerState.OPEN:
            return
        self._failed_probes = 0
        self._change(BreakerState.OPEN, reason)

    def begin_probe(self) -> None:
        """The owner is about to probe."""
        if self.state is BreakerState.OPEN:
            self._change(BreakerState.HALF_OPEN, self.reason)

    def probe_succeeded(self) -> None:
        self._consecutive_failures = 0
        self._failed_probes = 0
        if not self.is_closed:
            self._change(BreakerState.CLOSED, "")

    def probe_failed(self, reason: str) -> None:
        self._failed_probes += 1
        self._change(BreakerState.OPEN, reason)

    def probe_wait(self) -> float:
        """Seconds to wait before the next probe: 1, 2, 4 … up to the longest wait, jittered."""
        return backoff_seconds(self._failed_probes, longest=self._longest_wait_seconds())

    def _change(self, state: BreakerState, reason: str) -> None:
        changed = state is not self.state
        self.state = state
        self.reason = reason
        if changed:
            self._on_change(state, reason)
