"""The one task that watches Chroma: canary rounds while it is well, probes at growing intervals while it is not."""

import asyncio
import logging
import time
from collections.abc import Callable

from knowledgebeast_service.errors import DatabaseError
from knowledgebeast_service.resilience.breaker import BreakerState, CircuitBreaker
from knowledgebeast_service.search.canary import CanaryRounds, Round
from knowledgebeast_service.search.collection_health import CollectionHealth
from knowledgebeast_service.search.replica import KeywordReplica
from knowledgebeast_service.settings import LiveSettings
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.ingest_queue import newest_model_hash
from knowledgebeast_service.storage.model_change import model_changes
from knowledgebeast_service.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


class VectorHealth:
    """Owns the probing of the breaker; `last_round` is None until the first round has ended."""

    def __init__(
        self,
        rounds: CanaryRounds,
        breaker: CircuitBreaker,
        replica: KeywordReplica,
        database: Database,
        settings: Callable[[], LiveSettings],
        metrics: Metrics,
        health: CollectionHealth,
        model_hash: Callable[[], str | None],
    ) -> None:
        self._rounds = rounds
        self._breaker = breaker
        self._replica = replica
        self._database = database
        self._settings = settings
        self._metrics = metrics
        self._health = health
        self._model_hash = model_hash
        self._is_due = False
        self._wake = asyncio.Event()
        self._one_round = asyncio.Lock()
        self._said: str = ""
        self.last_round: Round | None = None
        self.last_round_seconds = 0.0

    def wake(self) -> None:
        """Reconsider the wait: the breaker changed, or the settings did."""
        self._wake.set()

    def check_soon(self) -> None:
        """Do not wait for the next round: another model was loaded."""
        self._is_due = True
        self.wake()

    def breaker_changed(self, state: BreakerState, reason: str) -> None:
        """To be called after every change of the breaker."""
        if state is BreakerState.OPEN:
            log.warning("circuit breaker of Chroma is open, answers are degraded: %s", reason)
        elif state is BreakerState.CLOSED:
            log.info("circuit breaker of Chroma is closed, answers are complete again")
        self._metrics.set("kb_chroma_breaker_state", state.value)
        self.wake()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.check_once()
            except DatabaseError as error:
                log.warning("canaries cannot be chosen: %s", error)
            await self._pause()

    async def check_once(self) -> None:
        """One round, and what follows from it. A round that is under way is waited for: two would mix their probes."""
        async with self._one_round:
            await self._check()

    async def _check(self) -> None:
        self._breaker.begin_probe()
        started = time.perf_counter()
        model_hash = self._model_hash()
        if model_hash is not None:
            self._health.changing = await self._database.read(lambda connection: model_changes(connection, model_hash))
        projects = [view.project for view in self._replica.snapshot.by_name.values()]
        result = await self._rounds.run(projects, await self._database.read(newest_model_hash))
        if result.is_chroma_well and result.reason != self._said:
            log.warning("one project is answered without vectors, Chroma is well: %s", result.reason)
        self._said = result.reason
        self.last_round, self.last_round_seconds = result, time.perf_counter() - started
        self._metrics.set("kb_canary_success_ratio", result.ratio)
        self._metrics.set("kb_canary_timestamp_seconds", time.time())
        if result.is_passing or result.is_chroma_well:
            self._breaker.probe_succeeded()
        elif self._breaker.is_closed:
            self._breaker.trip(result.reason)
        else:
            self._breaker.probe_failed(result.reason)

    async def _pause(self) -> None:
        """Wait for the next round; a wake begins the wait anew, by the state and the settings of then."""
        while not self._is_due:
            self._wake.clear()
            try:
                async with asyncio.timeout(self._wait_seconds()):
                    await self._wake.wait()
            except TimeoutError:
                return

        self._is_due = False

    def _wait_seconds(self) -> float:
        if self._breaker.state is BreakerState.CLOSED:
            return self._settings().canary_interval_seconds
        return self._breaker.probe_wait()
