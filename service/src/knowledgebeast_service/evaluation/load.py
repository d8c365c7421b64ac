"""An open-model load: queries arrive at a constant rate, whatever becomes of those before.

Times count from the moment at which a query was due, not from when it could be sent: a service that stalls is charged
for everyone who would have waited (no coordinated omission).
"""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import httpx

MILLISECONDS = 1000


@dataclass
class Load:
    """What was seen; `failures` counts by status, or by the kind of error where there was no answer."""

    milliseconds: list[float] = field(default_factory=list[float])
    failures: Counter[str] = field(default_factory=Counter[str])
    degraded: int = 0
    cached: int = 0
    seconds: float = 0.0

    @property
    def answered(self) -> int:
        return len(self.milliseconds)

    @property
    def requests(self) -> int:
        return self.answered + self.failures.total()

    def percentile(self, share: float) -> float:
        """The smallest time within which `share` of the answers came (nearest rank)."""
        ordered = sorted(self.milliseconds)
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


async def run_load(
    client: httpx.AsyncClient,
    path: str,
    queries: Sequence[dict[str, object]],
    *,
    rate: float,
    seconds: float,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Load:
    """Send the queries (bodies of POST) in turn, `rate` a second, for so long; then wait for the last answers."""
    load = Load()
    total = max(1, round(rate * seconds))
    started = asyncio.get_running_loop().time()

    async def one(number: int) -> None:
        due = started + number / rate
        try:
            response = await client.post(path, json=queries[number % len(queries)])
        except httpx.HTTPError as error:
            load.failures[type(error).__name__] += 1
            return
        finally:
            progress(load.requests, total)
        if response.is_error:
            load.failures[str(response.status_code)] += 1
            return
        load.milliseconds.append((asyncio.get_running_loop().time() - due) * MILLISECONDS)
        content = response.json()
        load.degraded += bool(content["degraded_mode"])
        load.cached += bool(content["cache_hit"])

    async with asyncio.TaskGroup() as arrivals:
        for number in range(total):
            await asyncio.sleep(max(0.0, started + number / rate - asyncio.get_running_loop().time()))
            arrivals.create_task(one(number))
    load.seconds = asyncio.get_running_loop().time() - started
    return load
