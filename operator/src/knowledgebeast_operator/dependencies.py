"""Everything that the handlers need, built once from the settings when this process begins to lead."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from knowledgebeast_operator import runbooks
from knowledgebeast_operator.cluster import kinds
from knowledgebeast_operator.cluster.client import Cluster
from knowledgebeast_operator.cluster.kinds import Kind
from knowledgebeast_operator.cluster.watchdog import WatchDog
from knowledgebeast_operator.cluster.watched import Indexes
from knowledgebeast_operator.custom_resource.names import NAME_LABEL
from knowledgebeast_operator.health import Health
from knowledgebeast_operator.leadership import Leadership
from knowledgebeast_operator.reconcile import Shell
from knowledgebeast_operator.record import metrics
from knowledgebeast_operator.record.events import EventRecorder
from knowledgebeast_operator.serving import ObjectLoop, Wakeups
from knowledgebeast_operator.settings import Settings
from knowledgebeast_operator.signals.gather import Sources, Target
from knowledgebeast_operator.signals.prometheus import Prometheus

WATCHED: Final = (kinds.KNOWLEDGE_BEAST, kinds.POD, *kinds.OPERANDS, kinds.INCIDENT, kinds.INCIDENT_APPROVAL)
"""Watched in every served namespace; nodes are watched cluster-wide."""


@dataclass(slots=True)
class Dependencies:
    """Reaches the handlers as `memo.dependencies`."""

    settings: Settings
    cluster: Cluster
    leadership: Leadership
    health: Health
    wakeups: Wakeups = field(default_factory=Wakeups)
    _loop: ObjectLoop | None = None
    _targets: dict[str, Target] = field(default_factory=dict[str, Target])
    _watchdog: "asyncio.Task[None] | None" = None

    @property
    def loop(self) -> ObjectLoop:
        """The loop that serves an object.

        Raises:
            RuntimeError: before `start`.
        """
        if self._loop is None:
            raise RuntimeError("the handlers run before the start-up handler")
        return self._loop

    def start(self, indexes: Indexes) -> None:
        """Connects everything with kopf's indexes, and starts the watchdog."""
        settings = self.settings
        watchdog = WatchDog(
            self.cluster,
            indexes,
            watches=self._watches(),
            stale_seconds=settings.watch_stale_seconds,
            publish=lambda kind, seconds: metrics.WATCH_STALENESS.labels(kind).set(seconds),
        )
        self.health.add(watchdog.problems)
        self._watchdog = asyncio.create_task(watchdog.run(settings.watch_check_seconds), name="watchdog")
        self._targets = {name: self._connect(name) for name in settings.prometheus}
        shell = Shell(
            cluster=self.cluster,
            sources=Sources(indexes, self._targets, watchdog.is_fresh),
            leadership=self.leadership,
            events=EventRecorder(self.cluster, settings.identity),
            gauges=metrics.ObjectGauges(),
            runbooks=runbooks.load(),
            identity=settings.identity,
            default_image=settings.default_service_image,
            incidents_kept=settings.incident_retention_count,
            incidents_max_age=timedelta(days=settings.incident_retention_days),
            clock=lambda: datetime.now(UTC),
        )
        self._loop = ObjectLoop(shell, self.wakeups, settings.tick_interval_seconds, settings.tick_timeout_seconds)

    async def stop(self) -> None:
        """Ends the watchdog and closes the connections to Prometheus."""
        if self._watchdog is not None:
            self._watchdog.cancel()
        for target in self._targets.values():
            await target.client.close()

    def _connect(self, name: str) -> Target:
        target = self.settings.prometheus[name]
        client = Prometheus(
            str(target.url),
            timeout_seconds=self.settings.prometheus_timeout_seconds,
            cache_seconds=target.scrape_interval_seconds / 2,  # Prometheus has hardly more to say before
        )
        return Target(client, timedelta(seconds=target.scrape_interval_seconds))

    def _watches(self) -> list[tuple[Kind, str | None, str | None]]:
        namespaces = self.settings.watched_namespaces
        own: list[tuple[Kind, str | None, str | None]] = [
            (kind, namespace, None if kind in kinds.MADE_BY_PEOPLE else NAME_LABEL)
            for kind in WATCHED
            for namespace in namespaces
        ]
        return [*own, (kinds.NODE, None, None), (kinds.STORAGE_CLASS, None, None)]
