"""From a project and model to collections: which generation to ask or to write, and its parts.

Queries and canaries go to the serving generation, all parts at the same time; writes go to every generation that is
serving or being built.
"""

import asyncio
from collections.abc import Sequence

import numpy as np

from knowledgebeast_service.errors import CollectionMissingError
from knowledgebeast_service.search.vector_store import Matrix, Neighbours, VectorStore, collection_name, part_of
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.generations import Generation, serving_generation, written_generations
from knowledgebeast_service.storage.records import Project


def names_of(generation: Generation) -> list[str]:
    """The collection of each part, in the order of `part_of`."""
    uid, model_hash, number = generation.key
    parts = generation.parts
    return [collection_name(uid, model_hash, number, part, parts) for part in range(parts)]


class Collections:
    """A VectorStore seen by project. The serving generation is remembered until the project's sequence moves on."""

    def __init__(self, store: VectorStore, database: Database) -> None:
        self.store = store
        self._database = database
        self._serving: dict[tuple[str, str], tuple[int, Generation]] = {}

    async def serving(self, project: Project, model_hash: str) -> Generation:
        """The generation that serves the project as of `project.seq`, or later."""
        key = project.uid, model_hash
        known = self._serving.get(key)
        if known is None or known[0] < project.seq:
            known = project.seq, await self._read_serving(project, model_hash)
            self._serving[key] = known
        return known[1]

    async def query(
        self, project: Project, model_hash: str, vectors: Matrix, limit: int, timeout_seconds: float
    ) -> list[Neighbours]:
        """The nearest of all parts, nearest first; raises as VectorStore.query."""
        generation = await self.serving(project, model_hash)
        try:
            return await self.query_generation(generation, vectors, limit, timeout_seconds)
        except CollectionMissingError:
            # A swap that this process has not seen yet, and the old one dropped already?
            now = await self._read_serving(project, model_hash)
            if now == generation:
                raise
            self._serving[project.uid, model_hash] = project.seq, now
            return await self.query_generation(now, vectors, limit, timeout_seconds)

    async def query_generation(
        self, generation: Generation, vectors: Matrix, limit: int, timeout_seconds: float
    ) -> list[Neighbours]:
        """`query`, of a generation that need not serve."""
        asked = [self.store.query(name, vectors, limit, timeout_seconds) for name in names_of(generation)]
        if len(asked) == 1:
            return await asked[0]
        return merge(await asyncio.gather(*asked), limit)

    async def written(self, project_uid: str, model_hash: str) -> list[Generation]:
        """The generations that a vector or its removal has to reach, the serving one first; always read anew.

        To be called after the vector is in the database: a rebuild that begins later finds it there.
        """
        return await self._database.read(lambda connection: written_generations(connection, project_uid, model_hash))

    async def upsert(
        self, generation: Generation, chunk_ids: Sequence[int], vectors: Matrix, timeout_seconds: float
    ) -> None:
        """Write to the parts that the chunks belong to; raises as VectorStore.upsert."""
        for name, places in self._split(generation, chunk_ids):
            await self.store.upsert(name, [chunk_ids[place] for place in places], vectors[places], timeout_seconds)

    async def delete(self, generation: Generation, chunk_ids: Sequence[int], timeout_seconds: float) -> None:
        """Remove from the parts that the chunks belong to; a part that is not there has nothing to remove."""
        for name, places in self._split(generation, chunk_ids):
            try:
                await self.store.delete(name, [chunk_ids[place] for place in places], timeout_seconds)
            except CollectionMissingError:
                continue

    async def create(self, generation: Generation, timeout_seconds: float) -> None:
        """Make every part that is not there."""
        for name in names_of(generation):
            await self.store.create_collection(name, timeout_seconds)

    async def drop(self, generation: Generation, timeout_seconds: float) -> None:
        """Remove every part that is there."""
        for name in names_of(generation):
            try:
                await self.store.drop_collection(name, timeout_seconds)
            except CollectionMissingError:
                continue

    async def _read_serving(self, project: Project, model_hash: str) -> Generation:
        def read(connection: Connection) -> Generation:
            return serving_generation(connection, project.uid, model_hash)

        return await self._database.read(read)

    @staticmethod
    def _split(generation: Generation, chunk_ids: Sequence[int]) -> list[tuple[str, list[int]]]:
        """The parts concerned, with the places in `chunk_ids` that go there."""
        parts = part_of(chunk_ids, generation.parts)
        split = ((name, np.flatnonzero(parts == part).tolist()) for part, name in enumerate(names_of(generation)))
        return [(name, places) for name, places in split if places]


def merge(answers: Sequence[list[Neighbours]], limit: int) -> list[Neighbours]:
    """For each vector the `limit` nearest of what the parts have answered; ties by chunk id."""
    return [_nearest(parts, limit) for parts in zip(*answers, strict=True)]


def _nearest(parts: Sequence[Neighbours], limit: int) -> Neighbours:
    every = Neighbours(
        np.concatenate([part.chunk_ids for part in parts]), np.concatenate([part.distances for part in parts])
    )
    return every.take(np.lexsort((every.chunk_ids, every.distances))[:limit])
