"""The watchdog of the watches: compares what they have shown with live lists, for ever, and remembers who is silent."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence

from knowledgebeast_operator.cluster.client import Cluster
from knowledgebeast_operator.cluster.freshness import Suspicion, judge, staleness_seconds
from knowledgebeast_operator.cluster.kinds import Kind
from knowledgebeast_operator.cluster.watched import Indexes
from knowledgebeast_operator.errors import ClusterError, ClusterUnreachable

logger = logging.getLogger(__name__)


class WatchDog:
    """Knows for how long each watch has been silent although there was something to say."""

    def __init__(
        self,
        cluster: Cluster,
        indexes: Indexes,
        *,
        watches: Sequence[tuple[Kind, str | None, str | None]],
        stale_seconds: float,
        publish: Callable[[str, float], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`watches` are kind, namespace (None: cluster-wide) and label selector; `publish` gets kind and seconds."""
        self._cluster = cluster
        self._indexes = indexes
        self._watches = watches
        self._stale_seconds = stale_seconds
        self._publish_seconds = publish
        self._clock = clock
        self._suspicions: dict[tuple[str, str | None], Suspicion] = {}

    async def run(self, every_seconds: float) -> None:
        """Compares until it is cancelled."""
        while True:
            await asyncio.sleep(every_seconds)
            await self.compare()

    async def compare(self) -> None:
        """One comparison of every watch."""
        for kind, namespace, selector in self._watches:
            key = (kind.plural, namespace)
            try:
                live = await self._cluster.list_versions(kind, namespace, selector)
            except (ClusterError, ClusterUnreachable) as error:
                # No live list, no verdict: an API server that is away is not a dead watch.
                logger.warning("cannot check the watch of %s: %s", kind.plural, error)
                continue
            shown = self._indexes.versions(kind, namespace)
            suspicion = judge(self._suspicions.pop(key, None), shown, live, self._clock())
            if suspicion is not None:
                self._suspicions[key] = suspicion
        self._publish()

    def problems(self) -> Iterable[str]:
        """Watches that have been silent for too long; only a restart of the process brings them back."""
        for (plural, namespace), suspicion in self._suspicions.items():
            silent = staleness_seconds(suspicion, self._clock())
            if silent > self._stale_seconds:
                yield f"the watch of {plural} in {namespace or 'the cluster'} has been silent for {silent:.0f} s"

    def is_fresh(self, namespace: str) -> bool:
        """Whether what the watches show of a namespace may be acted on."""
        now = self._clock()
        return not any(
            staleness_seconds(suspicion, now) > self._stale_seconds / 2
            for (_, of), suspicion in self._suspicions.items()
            if of in (None, namespace)
        )

    def _publish(self) -> None:
        now = self._clock()
        for kind, _, _ in self._watches:
            silent = [
                staleness_seconds(suspicion, now)
                for (plural, _), suspicion in self._suspicions.items()
                if plural == kind.plural
            ]
            self._publish_seconds(kind.plural, max(silent, default=0.0))
