"""The ConfigMap of overlays: written with the version that was read, and believed at once while the watch lags behind.

A fence goes away only here, and only when nothing of the task that needed it is running any more.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, cast

from knowledgebeast_operator.actions.jobs import Jobs
from knowledgebeast_operator.actions.results import Done, Result, Withheld
from knowledgebeast_operator.cluster.client import Cluster, Json
from knowledgebeast_operator.cluster.kinds import CONFIG_MAP
from knowledgebeast_operator.cluster.objects import LiveOperand, Meta
from knowledgebeast_operator.core.actions import SetFields
from knowledgebeast_operator.core.ledger import Attempt, IncidentRecord
from knowledgebeast_operator.core.overlays import Fence, FieldOverlay, Overlays
from knowledgebeast_operator.custom_resource import KnowledgeBeast, names
from knowledgebeast_operator.errors import AlreadyExists, Conflict, NotFound
from knowledgebeast_operator.leadership import Leadership
from knowledgebeast_operator.operands.manifest import metadata

logger = logging.getLogger(__name__)

CATCH_UP_SECONDS: Final = 30.0
"""After which what the watch shows counts again."""

ABANDONED: Final = "its attempt is over"


@dataclass(slots=True)
class OverlayStore:
    """The overlays of one object."""

    cluster: Cluster
    jobs: Jobs
    leadership: Leadership
    clock: Callable[[], float] = time.monotonic
    _written: Overlays | None = field(default=None)
    _superseded: set[str] = field(default_factory=set[str])
    _written_at: float = field(default=float("-inf"))

    def read(self, knowledgebeast: KnowledgeBeast, live: Iterable[LiveOperand]) -> Overlays:
        """As the watch shows them, or as we wrote them where it shows an earlier version."""
        name = names.overlays_name(knowledgebeast.name)
        shown = next((item for item in live if item.kind == CONFIG_MAP.name and item.metadata.name == name), None)
        version = shown.metadata.resource_version if shown is not None else ""
        is_behind = version in self._superseded and self.clock() - self._written_at < CATCH_UP_SECONDS
        if self._written is not None and is_behind:
            return self._written
        self._written = None
        self._superseded.clear()
        return Overlays.read(shown.data if shown is not None else {})

    async def fence(self, knowledgebeast: KnowledgeBeast, fence: Fence) -> Fence:
        """Puts up the fence unless one stands; the one that stands then.

        Raises:
            Conflict, AlreadyExists: somebody wrote the overlays meanwhile; look again.
        """
        live, overlays = await self._live(knowledgebeast)
        if overlays.fence is not None:
            return overlays.fence
        await self._write(knowledgebeast, overlays.model_copy(update={"fence": fence}), live)
        return fence

    async def put(
        self, knowledgebeast: KnowledgeBeast, attempt: Attempt, incident: str, runbook: str, action: SetFields
    ) -> Result:
        """Puts the fields of an attempt, or its inverse, in force. Repeating it changes nothing."""
        live, overlays = await self._live(knowledgebeast)
        changed = overlays.changed(attempt, incident, runbook, action, knowledgebeast.spec)
        if changed != overlays:
            try:
                await self._write(knowledgebeast, changed, live)
            except (Conflict, AlreadyExists):
                return Withheld("OverlaysChanged", "the overlays were written by somebody else meanwhile")
        return Done(action.describe())

    async def drop(self, knowledgebeast: KnowledgeBeast, ended: Mapping[str, FieldOverlay]) -> None:
        """Takes away overlays that have come to their end, if they are still the ones that were looked at.

        Raises:
            Conflict: somebody wrote the overlays meanwhile; look again.
        """
        live, overlays = await self._live(knowledgebeast)
        kept = {path: overlay for path, overlay in overlays.fields.items() if ended.get(path) != overlay}
        if kept != overlays.fields:
            await self._write(knowledgebeast, overlays.model_copy(update={"fields": kept}), live)

    async def settle(
        self,
        knowledgebeast: KnowledgeBeast,
        overlays: Overlays,
        incidents: Iterable[IncidentRecord],
        read_again: Callable[[], Awaitable[Iterable[IncidentRecord]]],
    ) -> Overlays:
        """The overlays without a fence that nobody needs any more; it stays until its task has certainly ended.

        The incidents are read again, live, before anything is done: a task must not be stopped for a watch that lags.
        """
        fence = overlays.fence
        if fence is None or fence.is_justified(incidents) or fence.is_justified(await read_again()):
            return overlays
        if fence.attempt and not await self.jobs.is_over(knowledgebeast, fence.attempt, because=ABANDONED):
            logger.info("the fence of %s stays until its task has ended", fence.attempt)
            return overlays
        live, present = await self._live(knowledgebeast)
        if present.fence != fence:
            return present
        lifted = present.model_copy(update={"fence": None})
        await self._write(knowledgebeast, lifted, live)
        logger.info("lifted the fence of %s", fence.attempt)
        return lifted

    async def _live(self, knowledgebeast: KnowledgeBeast) -> tuple[Meta | None, Overlays]:
        """The ConfigMap (None: there is none) and what it says."""
        try:
            body = await self.cluster.get(
                CONFIG_MAP, knowledgebeast.namespace, names.overlays_name(knowledgebeast.name)
            )
        except NotFound:
            return None, Overlays()
        data = cast("Mapping[str, str]", body.get("data") or {})
        return Meta.model_validate(body["metadata"]), Overlays.read(data)

    async def _write(self, knowledgebeast: KnowledgeBeast, overlays: Overlays, live: Meta | None) -> None:
        """Only onto what was read: a version in a patch is a precondition."""
        self.leadership.require()
        namespace, name = knowledgebeast.namespace, names.overlays_name(knowledgebeast.name)
        if live is None:
            meta = metadata(knowledgebeast, name, names.SERVICE)
            data = {key: value for key, value in overlays.dump().items() if value is not None}
            body: Json = {"apiVersion": "v1", "kind": CONFIG_MAP.name, "metadata": meta, "data": data}
            await self.cluster.create(CONFIG_MAP, namespace, body)
        else:
            patch = {"metadata": {"resourceVersion": live.resource_version}, "data": overlays.dump()}
            await self.cluster.merge(CONFIG_MAP, namespace, name, patch, uid=live.uid)
        self._written, self._written_at = overlays, self.clock()
        self._superseded.add(live.resource_version if live is not None else "")
