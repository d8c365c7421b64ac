"""How long to wait before trying again."""

import random
import time

FIRST_WAIT_SECONDS = 1.0
# Replicas that failed together must not come back together.
JITTER = 0.2


def backoff_seconds(failures: int, *, longest: float, first: float = FIRST_WAIT_SECONDS) -> float:
    """First · 2^failures, at most `longest`, shortened by a random share of up to JITTER."""
    wait = min(longest, first * 2.0 ** min(failures, 32))
    return wait * (1 - JITTER * random.random())


class Deadline:
    """The time that is left for a call with all its tries, by the monotonic clock."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def remaining(self) -> float:
        """Seconds, never below 0."""
        return max(0.0, self._end - time.monotonic())
