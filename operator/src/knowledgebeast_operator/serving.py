"""Serving one KnowledgeBeast for as long as it exists: tick after tick, and nothing that goes wrong ends the loop."""

import asyncio
import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, cast

from knowledgebeast_operator.cluster.client import Json
from knowledgebeast_operator.cluster.objects import Meta
from knowledgebeast_operator.cluster.watched import Key
from knowledgebeast_operator.core.conditions import Observed, Status
from knowledgebeast_operator.core.facts import Subject
from knowledgebeast_operator.core.pace import Pace
from knowledgebeast_operator.custom_resource import InvalidKnowledgeBeastError
from knowledgebeast_operator.errors import ClaimLost, ClusterError, ClusterUnreachable
from knowledgebeast_operator.reconcile import Reconciler, Shell
from knowledgebeast_operator.record.metrics import CLAIMS_LOST, RECONCILE_DURATION, RECONCILE_ERRORS
from knowledgebeast_operator.record.view import failed_view

logger = logging.getLogger(__name__)

JITTER: Final = 0.1
"""Ticks of many objects spread over time, and yet share the answers of Prometheus."""

SHORTEST_SECONDS: Final = 0.2
"""Between two ticks, whatever happens meanwhile: a pod that starts has many events in one second."""

FAREWELL_SECONDS: Final = 5.0
"""For closing the Incidents of a deleted object; less than what kopf leaves a daemon to end."""


@dataclass(slots=True)
class Wakeups:
    """Who is to be looked at before its next tick is due."""

    _events: dict[Key, asyncio.Event] = field(default_factory=dict[Key, asyncio.Event])
    _asked: dict[Key, object] = field(default_factory=dict[Key, object])

    def of(self, key: Key) -> asyncio.Event:
        """The event of one object."""
        return self._events.setdefault(key, asyncio.Event())

    def wake(self, key: Key) -> None:
        """Something happened to one of its pods."""
        if key in self._events:
            self._events[key].set()

    def wake_namespace(self, namespace: str) -> None:
        """Something happened that may concern any object of the namespace."""
        for key in list(self._events):
            if key[0] == namespace:
                self.wake(key)

    def wake_when_asked(self, key: Key, generation: object, annotations: Mapping[str, str]) -> None:
        """The object itself changed. Only what people ask for counts: our own status would wake us for ever."""
        asked = (generation, dict(annotations))
        if self._asked.get(key) != asked:
            self._asked[key] = asked
            self.wake(key)

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self._events.pop(key, None)
        self._asked.pop(key, None)


@dataclass(slots=True)
class ObjectLoop:
    """The loop of one object."""

    shell: Shell
    wakeups: Wakeups
    interval_seconds: float
    timeout_seconds: float

    async def serve(self, key: Key, uid: str) -> None:
        """Runs until it is cancelled, which kopf does when the object is deleted or the operator ends."""
        reconciler, wakeup = Reconciler(self.shell), self.wakeups.of(key)
        try:
            while True:
                wakeup.clear()
                pace = await self._look(reconciler, key, uid)
                await asyncio.sleep(SHORTEST_SECONDS)
                await self._rest(wakeup, pace.seconds(self.interval_seconds))
        finally:
            self.wakeups.forget(key)
            self.shell.gauges.forget(uid)

    async def farewell(self, key: Key) -> None:
        """Closes the Incidents of an object that is being deleted. A failure must not hold the deletion up."""
        try:
            async with asyncio.timeout(FAREWELL_SECONDS):
                while True:
                    try:
                        return await Reconciler(self.shell).farewell(key)
                    except ClaimLost:  # the watch has not yet shown what the last tick wrote
                        await asyncio.sleep(SHORTEST_SECONDS)
        except (ClusterError, ClusterUnreachable, TimeoutError) as error:
            logger.warning("%s/%s: its Incidents could not be closed: %s", *key, error)

    async def _rest(self, wakeup: asyncio.Event, seconds: float) -> None:
        """Until the next tick is due, or something happens."""
        rest = seconds * random.uniform(1 - JITTER, 1 + JITTER) - SHORTEST_SECONDS
        try:
            async with asyncio.timeout(max(0.0, rest)):
                await wakeup.wait()
        except TimeoutError:
            return

    async def _look(self, reconciler: Reconciler, key: Key, uid: str) -> Pace:
        """One tick. The outermost layer: whatever happens is counted and shown, and the next tick tries again."""
        body = self.shell.sources.indexes.object_body(key)
        if body is None:
            return Pace()
        meta = Meta.model_validate(body["metadata"])
        if meta.uid != uid or meta.deletion_timestamp is not None:
            return Pace()
        subject = Subject(meta.namespace, meta.name, meta.uid, meta.generation)
        with RECONCILE_DURATION.time():
            try:
                async with asyncio.timeout(self.timeout_seconds):
                    return await reconciler.tick(body)
            except ClaimLost as lost:
                CLAIMS_LOST.inc()
                logger.info("%s/%s: %s", *key, lost)
            except InvalidKnowledgeBeastError as error:
                await self._show(reconciler, subject, body, "InvalidSpec", str(error), is_stalled=True)
            except Exception as error:
                RECONCILE_ERRORS.inc()
                logger.exception("%s/%s could not be reconciled", *key)
                message = str(error) or type(error).__name__
                await self._show(reconciler, subject, body, "ReconcileError", message, is_stalled=False)
        return Pace()

    async def _show(
        self, reconciler: Reconciler, subject: Subject, body: Json, reason: str, message: str, *, is_stalled: bool
    ) -> None:
        """Says in the status that the tick failed; where even that fails, the log and the counter have it."""
        observed = {"Ready": Observed(status=Status.UNKNOWN, reason=reason, message=message[:1024])}
        if is_stalled:
            observed["Stalled"] = Observed(status=Status.TRUE, reason=reason, message=message[:1024])
        watched = cast("Json", body.get("status") or {})
        view = failed_view(reconciler.status.present(watched), subject.generation, observed, self.shell.clock())
        try:
            await reconciler.status.write(subject, view, watched)
        except (ClusterError, ClusterUnreachable) as error:
            logger.warning("%s/%s: the status could not be written: %s", subject.namespace, subject.name, error)
