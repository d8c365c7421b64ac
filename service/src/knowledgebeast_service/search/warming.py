"""Fill the caches of this process before users ask: slowly, and not while users feel it."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from knowledgebeast_service.errors import KnowledgeBeastError
from knowledgebeast_service.search.pipeline import SearchPipeline, SearchRequest

WINDOW_SECONDS = 30.0
FEWEST_TO_JUDGE = 20  # live queries in the window
SLOW_SECONDS = 0.15  # a P99 up to here is no reason to stop (the runbook's healthy bar)
RISE = 2.0  # and neither is one that has not risen so many times


class LiveLatency:
    """Durations of the queries of users in the last WINDOW_SECONDS; `now` is monotonic."""

    def __init__(self) -> None:
        self._recent: deque[tuple[float, float]] = deque(maxlen=2000)

    def record(self, seconds: float, now: float) -> None:
        self._recent.append((now, seconds))

    def p99(self, now: float, since: float = -math.inf) -> float | None:
        """Seconds, by nearest rank; None while too few queries tell."""
        oldest = max(now - WINDOW_SECONDS, since)
        seconds = sorted(seconds for at, seconds in self._recent if at >= oldest)
        return seconds[math.ceil(0.99 * len(seconds)) - 1] if len(seconds) >= FEWEST_TO_JUDGE else None


@dataclass(frozen=True)
class Warmed:
    """What a warming has done; `stopped` says why it ended before its list."""

    asked: int
    already_cached: int
    failed: int
    seconds: float
    stopped: str | None = None


async def warm(
    pipeline: SearchPipeline, latency: LiveLatency, requests: Sequence[SearchRequest], per_second: float
) -> Warmed:
    """Ask every query once, one after the other, at most `per_second`.

    It stops when the P99 of live queries rises over SLOW_SECONDS and over RISE times what it was, or when the service
    is degraded: answers without vectors are not kept.
    """
    started = time.monotonic()
    before = latency.p99(started)
    limit = max(SLOW_SECONDS, RISE * (before or 0.0))
    asked = cached = failed = 0
    stopped: str | None = None
    for number, request in enumerate(requests):
        await asyncio.sleep(max(0.0, started + number / per_second - time.monotonic()))
        now = time.monotonic()
        p99 = latency.p99(now, since=started)
        if p99 is not None and p99 > limit:
            stopped = f"the P99 of live queries rose to {p99 * 1000:.0f} ms (limit {limit * 1000:.0f} ms)"
            break
        if request.mode != "keyword" and pipeline.degraded_reason is not None:
            stopped = pipeline.degraded_reason
            break
        asked += 1
        try:
            cached += (await pipeline.answer(request)).is_cached
        except KnowledgeBeastError:
            failed += 1
    return Warmed(asked, cached, failed, round(time.monotonic() - started, 3), stopped)
