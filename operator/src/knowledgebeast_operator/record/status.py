"""Writing the status of a KnowledgeBeast: a merge patch, and only when something in it has changed."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, cast

from knowledgebeast_operator.cluster.client import Cluster, Json
from knowledgebeast_operator.cluster.kinds import KNOWLEDGE_BEAST
from knowledgebeast_operator.core.facts import Subject

CATCH_UP_SECONDS: Final = 30.0
"""For so long our own last write counts as the present status; then the watch's view does, should others meddle."""


def merge_patch(present: Json, wanted: Json) -> dict[str, object]:
    """The JSON merge patch (RFC 7386) that turns `present` into `wanted`; empty when they are equal."""
    patch: dict[str, object] = {key: None for key in present if key not in wanted}
    for key, value in wanted.items():
        before = present.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            inner = merge_patch(cast("Json", before), cast("Json", value))
            if inner:
                patch[key] = inner
        elif key not in present or before != value:
            patch[key] = value
    return patch


@dataclass(slots=True)
class StatusWriter:
    """The status of one object."""

    cluster: Cluster
    clock: Callable[[], float] = time.monotonic
    _last: Json | None = field(default=None)
    _written_at: float = field(default=float("-inf"))

    def present(self, watched: Json) -> Json:
        """The status as it is now: what we wrote last while the watch may lag behind it, else what the watch shows."""
        is_recent = self.clock() - self._written_at < CATCH_UP_SECONDS
        return self._last if self._last is not None and is_recent else watched

    async def write(self, subject: Subject, wanted: Json, watched: Json) -> bool:
        """Makes the status what is wanted; says whether a write was needed.

        Raises:
            NotFound, Conflict: the object is gone, or another one has its name.
        """
        patch = merge_patch(self.present(watched), wanted)
        if not patch:
            return False
        await self.cluster.merge_status(KNOWLEDGE_BEAST, subject.namespace, subject.name, patch, uid=subject.uid)
        self._last, self._written_at = wanted, self.clock()
        return True
