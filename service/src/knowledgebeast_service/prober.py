"""Synthetic monitoring: the service is asked as a client asks it, through its own address in the cluster.

Each probe looks the name up, opens a connection of its own, and is answered by whichever pod the cluster picks: so it
meets what users meet (DNS, the Service and its endpoints, the network) and not only this process (docs/adr/0027).
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable

import aiohttp

from knowledgebeast_service.settings import LiveSettings
from knowledgebeast_service.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

PATH = "/probe"
DEADLINE_SECONDS = 5.0
OFF_SECONDS = 1.0  # between looks at whether it has been turned on
OK = 200


class Prober:
    """Nothing is reported before the first success: an address that has never answered tells of the set-up (a cluster
    in which pods cannot reach themselves), not of an outage.
    """

    def __init__(self, url: str, metrics: Metrics, limits: Callable[[], LiveSettings]) -> None:
        self._url = url.rstrip("/") + PATH
        self._metrics = metrics
        self._limits = limits
        self._is_proven = False
        self._was_good = True

    async def run(self) -> None:
        """Probe for ever, a whole interval apart; pods that start together do not ask together."""
        await asyncio.sleep(random.random() * self._limits().probe_interval_seconds)
        while True:
            interval = self._limits().probe_interval_seconds
            if interval == 0:
                await asyncio.sleep(OFF_SECONDS)
                continue
            await asyncio.sleep(max(0.0, interval - await self.probe()))

    async def probe(self) -> float:
        """One probe; the seconds that it took."""
        started = time.perf_counter()
        problem = await self._problem()
        seconds = time.perf_counter() - started
        self._is_proven = self._is_proven or problem is None
        if problem is not None and self._was_good:
            log.warning("a probe of %s failed after %.0f ms: %s", self._url, seconds * 1000, problem)
        self._was_good = problem is None
        if self._is_proven:
            self._metrics.set("kb_probe_success", 1 if problem is None else 0)
            self._metrics.set("kb_probe_duration_seconds", seconds)
            self._metrics.set("kb_probe_timestamp_seconds", time.time())
        return seconds

    async def _problem(self) -> str | None:
        """Why it was not answered; None when it was. A proxy of the environment must not stand in between."""
        try:
            async with (
                asyncio.timeout(DEADLINE_SECONDS),
                aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=False) as session,
                session.get(self._url, allow_redirects=False) as response,
            ):
                await response.read()
                return None if response.status == OK else f"status {response.status}"
        except TimeoutError:
            return f"no answer in {DEADLINE_SECONDS:g} s"
        except (aiohttp.ClientError, OSError) as error:
            return f"{type(error).__name__}: {error}"
