"""Bring a generation of collections to hold exactly the vectors that the database has, however much it holds already.

The difference of two sets of ids is all the state there is: a run that was killed is simply run again, and so is one
over a collection that was kept while others were written.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from knowledgebeast_service.errors import CollectionMissingError, UnavailableError, VectorStoreError
from knowledgebeast_service.resilience.retry import backoff_seconds
from knowledgebeast_service.search.placement import Collections, names_of
from knowledgebeast_service.search.vector_store import Matrix, part_of
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.generations import Generation
from knowledgebeast_service.storage.records import Project
from knowledgebeast_service.storage.vector_rows import ids_under_way, still_stored, vector_ids, vectors_of

log = logging.getLogger(__name__)

T = TypeVar("T")

BATCH = 2000  # about 9 MB of JSON; larger ones are little faster, and Chroma refuses 40 MB
IN_FLIGHT = 2  # the next batch is made while Chroma takes in the last one
PAGE = 50_000
# Chroma persists its index within a write; a restart in the middle of a fill must not end it either.
WRITE_SECONDS = 60.0
PATIENCE_TRIES = 6
LONGEST_PAUSE_SECONDS = 10.0
# What is written meanwhile is found by the next pass; a busy project needs a few.
PASSES = 10


class FillError(VectorStoreError):
    """The collections could not be brought to agree with the database."""


@dataclass
class Filling:
    """What a fill has done so far."""

    added: int = 0
    removed: int = 0
    passes: int = 0
    left: dict[str, int] = field(default_factory=dict[str, int])


class Filler:
    """Fills one generation; `on_batch` is told after every batch and may raise to stop."""

    def __init__(
        self,
        database: Database,
        collections: Collections,
        project: Project,
        generation: Generation,
        on_batch: Callable[[Filling], Awaitable[None]],
    ) -> None:
        self._database = database
        self._collections = collections
        self._project = project
        self._generation = generation
        self._on_batch = on_batch
        self.filling = Filling()

    async def run(self) -> Filling:
        """Until nothing differs but what the worker is about to bring or to remove itself.

        Raises:
            FillError: they still differed after PASSES, or Chroma stayed away.
        """
        while self.filling.passes < PASSES:
            self.filling.passes += 1
            held = await self._held()
            wanted, under_way = await self._database.read(self._read_ids)
            missing, extra = wanted - held, held - wanted
            if not (missing - under_way) and not (extra - under_way):
                self.filling.left = {"to_add": len(missing), "to_remove": len(extra)}
                return self.filling
            await self._remove(sorted(extra))
            await self._add(sorted(missing))
        raise FillError(
            f"the collection still differs from the database after {PASSES} passes: is Chroma losing writes?"
        )

    def _read_ids(self, connection: Connection) -> tuple[set[int], set[int]]:
        under_way = ids_under_way(connection, self._project)
        return vector_ids(connection, self._project, self._generation.model_hash), under_way

    async def _held(self) -> set[int]:
        """Ids in their right part; a part that is not there is made. Ids elsewhere count as not held."""
        held: set[int] = set()
        for part, name in enumerate(names_of(self._generation)):
            ids = await patiently(partial(self._list, name))
            parts = part_of(ids, self._generation.parts).tolist()
            held |= {chunk_id for chunk_id, of in zip(ids, parts, strict=True) if of == part}
        return held

    async def _list(self, name: str) -> list[int]:
        ids: list[int] = []
        while True:
            try:
                page = await self._collections.store.chunk_ids(name, PAGE, len(ids), WRITE_SECONDS)
            except CollectionMissingError:
                await self._collections.store.create_collection(name, WRITE_SECONDS)
                return []
            ids += page
            if len(page) < PAGE:
                return ids

    async def _add(self, chunk_ids: Sequence[int]) -> None:
        places = asyncio.Semaphore(IN_FLIGHT)
        try:
            async with asyncio.TaskGroup() as batches:
                for start in range(0, len(chunk_ids), BATCH):
                    await places.acquire()
                    task = batches.create_task(self._add_batch(chunk_ids[start : start + BATCH]))
                    task.add_done_callback(lambda _task: places.release())
        except* UnavailableError as failures:
            raise failures.exceptions[0] from None

    async def _add_batch(self, chunk_ids: Sequence[int]) -> None:
        def read(connection: Connection) -> tuple[list[int], Matrix]:
            return vectors_of(connection, self._project, self._generation.model_hash, chunk_ids)

        ids, vectors = await self._database.read(read)
        if ids:
            await patiently(lambda: self._collections.upsert(self._generation, ids, vectors, WRITE_SECONDS))
        self.filling.added += len(ids)
        # Deleted between the read and the upsert: the worker's removal may have come before it.
        stored = await self._database.read(
            lambda connection: still_stored(connection, self._project, self._generation.model_hash, ids)
        )
        await self._remove(sorted(set(ids) - stored))
        await self._on_batch(self.filling)

    async def _remove(self, chunk_ids: Sequence[int]) -> None:
        for start in range(0, len(chunk_ids), BATCH):
            ids = chunk_ids[start : start + BATCH]
            await patiently(partial(self._collections.delete, self._generation, ids, WRITE_SECONDS))
            self.filling.removed += len(ids)


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Try again while Chroma restarts.

    Raises:
        VectorStoreError: it stayed away for about half a minute.
    """
    for failures in range(PATIENCE_TRIES):
        try:
            return await call()
        except CollectionMissingError:
            raise
        except VectorStoreError as error:
            if failures == PATIENCE_TRIES - 1:
                raise
            wait = backoff_seconds(failures, longest=LONGEST_PAUSE_SECONDS)
            log.warning("%s; again in %.1f s", error, wait)
            await asyncio.sleep(wait)
    raise AssertionError("the last try returns or raises")
