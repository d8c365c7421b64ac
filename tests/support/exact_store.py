"""A vector store in memory that searches exactly, and that can be made to fail or to be killed at a chosen call."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from knowledgebeast_service.errors import CollectionMissingError, VectorStoreError
from knowledgebeast_service.search.vector_store import NO_NEIGHBOURS, Matrix, Neighbours
from knowledgebeast_service.storage.records import Vector


class Killed(BaseException):
    """What a SIGKILL is to a process: nothing can catch it and go on."""


@dataclass
class ExactStore:
    """`kill_at` counts calls; a killed call has taken effect or not, by `kill_after`."""

    collections: dict[str, dict[int, Vector]] = field(default_factory=dict[str, dict[int, Vector]])
    kill_at: int | None = None
    kill_after: bool = False
    calls: int = 0
    is_away: bool = False

    async def query(self, collection: str, vectors: Matrix, limit: int, timeout_seconds: float) -> list[Neighbours]:
        self._enter()
        stored = self._of(collection)
        self._leave()
        if not stored:
            return [NO_NEIGHBOURS for _ in vectors]
        ids = np.array(list(stored))
        distances = 1 - vectors @ np.stack(list(stored.values())).T
        order = np.argsort(distances, axis=1, kind="stable")[:, :limit]
        return [
            Neighbours.of((int(ids[place]), float(row[place])) for place in places)
            for row, places in zip(distances, order, strict=True)
        ]

    async def upsert(self, collection: str, chunk_ids: Sequence[int], vectors: Matrix, timeout_seconds: float) -> None:
        self._enter()
        self._of(collection).update(zip(chunk_ids, vectors, strict=True))
        self._leave()

    async def delete(self, collection: str, chunk_ids: Sequence[int], timeout_seconds: float) -> None:
        self._enter()
        stored = self._of(collection)
        for chunk_id in chunk_ids:
            stored.pop(chunk_id, None)
        self._leave()

    async def create_collection(self, collection: str, timeout_seconds: float) -> None:
        self._enter()
        self.collections.setdefault(collection, {})
        self._leave()

    async def drop_collection(self, collection: str, timeout_seconds: float) -> None:
        self._enter()
        self._of(collection)
        del self.collections[collection]
        self._leave()

    async def chunk_ids(self, collection: str, limit: int, offset: int, timeout_seconds: float) -> list[int]:
        self._enter()
        held = sorted(self._of(collection))
        self._leave()
        return held[offset : offset + limit]

    async def probe(self, timeout_seconds: float) -> None:
        self._enter()

    async def close(self) -> None: ...

    def _of(self, collection: str) -> dict[int, Vector]:
        if collection not in self.collections:
            raise CollectionMissingError(f"{collection} does not exist")
        return self.collections[collection]

    def _enter(self) -> None:
        if self.is_away:
            raise VectorStoreError("Chroma is away")
        self.calls += 1
        if self.calls == self.kill_at and not self.kill_after:
            raise Killed

    def _leave(self) -> None:
        if self.calls == self.kill_at:
            raise Killed
