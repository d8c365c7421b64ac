"""Heap profiles: MEMORY_PROFILE lines in the log while ENABLE_MEMORY_PROFILING is set, and one at a time on demand."""

import asyncio
import logging
from collections.abc import Callable

from knowledgebeast_service.errors import UnavailableError
from knowledgebeast_service.settings import LiveSettings
from knowledgebeast_service.telemetry.heap import MIB, TRACE_BYTES, CacheBytes, HeapProfile, HeapTracer
from knowledgebeast_service.telemetry.limits import anonymous_memory_bytes, memory_limit_bytes

log = logging.getLogger(__name__)

MESSAGE = "MEMORY_PROFILE"  # what the runbook searches the log for
BUDGET_CHECK_SECONDS = 2.0
LONGEST_ON_DEMAND_SECONDS = 60.0
LEAST_BUDGET_BYTES = 16 * MIB


class NoMemoryToProfileError(UnavailableError):
    """A profile would take memory that the container does not have."""


class MemoryProfiler:
    """Turns tracing on and off as the live settings say, and logs a profile every PROFILE_INTERVAL_SECONDS."""

    def __init__(
        self,
        limits: Callable[[], LiveSettings],
        cache_bytes: CacheBytes,
        free_bytes: Callable[[], int | None] = lambda: _free_bytes(),
    ) -> None:
        self._limits = limits
        self._free_bytes = free_bytes
        self._tracer = HeapTracer(cache_bytes)
        self._changed = asyncio.Event()
        self._busy = asyncio.Lock()

    def settings_changed(self) -> None:
        """Look at the settings now rather than at the end of the interval."""
        self._changed.set()

    async def run(self) -> None:
        """Never returns; what tracing holds is given back when the task is cancelled."""
        try:
            while True:
                await self._follow()
        finally:
            self._tracer.stop()

    async def on_demand(self, seconds: float) -> HeapProfile:
        """A profile now. While tracing is off it is turned on for so many seconds (at most 60), and off again.

        Raises:
            NoMemoryToProfileError: tracing could cost the container its life.
        """
        async with self._busy:
            if not self._tracer.is_on:
                self._start()
                await self._wait(min(seconds, LONGEST_ON_DEMAND_SECONDS))
            try:
                return await self._take()
            finally:
                if not self._limits().enable_memory_profiling:
                    await asyncio.to_thread(self._tracer.stop)

    async def _follow(self) -> None:
        self._changed.clear()
        limits = self._limits()
        if not limits.enable_memory_profiling:
            async with self._busy:
                if self._tracer.is_on:
                    await asyncio.to_thread(self._tracer.stop)
                    log.info("memory profiling is off")
            await self._changed.wait()
            return
        try:
            async with self._busy:
                self._start()
        except NoMemoryToProfileError as error:
            log.warning("%s: %s", MESSAGE, error)
        await self._wait(limits.profile_interval_seconds, self._changed)
        async with self._busy:
            if self._tracer.is_on and not self._changed.is_set():
                await self._take()

    def _start(self) -> None:
        if self._tracer.is_on:
            return
        free = self._free_bytes()
        self._tracer.trace_bytes = TRACE_BYTES if free is None else min(TRACE_BYTES, free // 2)
        if self._tracer.trace_bytes < LEAST_BUDGET_BYTES:
            raise NoMemoryToProfileError(
                f"no memory profile: {(free or 0) / MIB:.0f} MiB are left below the limit, and half of that must do "
                f"({LEAST_BUDGET_BYTES // MIB} MiB at least). Restart the process, or raise its memory limit first."
            )
        self._tracer.start()
        log.info("memory profiling is on, it may take %d MiB", self._tracer.trace_bytes // MIB)

    async def _wait(self, seconds: float, event: asyncio.Event | None = None) -> None:
        """Until the time is over, the event is set, or the traces have outgrown their budget."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while (left := deadline - loop.time()) > 0 and not self._tracer.is_over_budget:
            step = min(left, BUDGET_CHECK_SECONDS)
            if event is None:
                await asyncio.sleep(step)
                continue
            try:
                async with asyncio.timeout(step):
                    await event.wait()
                return
            except TimeoutError:
                continue

    async def _take(self) -> HeapProfile:
        """Profile and log. Traces over their budget are dropped, and tracing begins anew."""
        profile = await asyncio.to_thread(self._tracer.profile)
        begins_anew = self._tracer.is_over_budget
        if begins_anew:
            await asyncio.to_thread(self._tracer.stop)
            self._tracer.start()
        log.info(MESSAGE, extra={"memory_profile": profile.as_dict() | {"begins_anew": begins_anew}})
        return profile


def _free_bytes() -> int | None:
    """Below the container's limit; None = there is none."""
    limit = memory_limit_bytes()
    return max(0, limit - anonymous_memory_bytes()) if limit else None
