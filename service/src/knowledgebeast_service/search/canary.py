"""Canaries: stored chunks that must find themselves in Chroma.

Chroma's own health endpoints say 200 over a torn index, a missing segment and an emptied database; only a query with
a known answer tells. Real chunks of every collection serve, so that no probe documents lie in users' data.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np

from knowledgebeast_service.errors import CollectionMissingError, VectorStoreError
from knowledgebeast_service.search.vector_store import Neighbour, VectorStore, collection_name
from knowledgebeast_service.settings import LiveSettings
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.ingest_queue import sample_published, stored_vectors
from knowledgebeast_service.storage.records import Project, unpack_vector

PASSING_RATIO = 0.95
NEIGHBOURS = 10
RETRIES = 3  # after a crash Chroma's first reads may fail and then clear
RETRY_PAUSE_SECONDS = 0.2
COLLECTIONS_A_ROUND = 8


@dataclass(frozen=True)
class Round:
    """Result of one round: the worst collection's share of canaries that found themselves."""

    ratio: float
    reason: str = ""

    @property
    def is_passing(self) -> bool:
        return self.ratio >= PASSING_RATIO


class CanaryRounds:
    """Checks a few collections a round, in rotation, and those that failed last in every round."""

    def __init__(
        self,
        store: VectorStore,
        database: Database,
        settings: Callable[[], LiveSettings],
        on_missing: Callable[[Project, str], Awaitable[None]],
    ) -> None:
        self._store = store
        self._database = database
        self._settings = settings
        self._on_missing = on_missing
        self._failing: set[int] = set()
        self._next_project_id = 0

    async def run(self, projects: list[Project], model_hash: str | None) -> Round:
        """One round over `projects`; without any vector to ask for, a read through Chroma's database decides."""
        worst: Round | None = None
        for project in self._choose(projects) if model_hash else []:
            result = await self._check(project, model_hash or "")
            if result is None:
                self._failing.discard(project.id)
                continue
            (self._failing.discard if result.is_passing else self._failing.add)(project.id)
            if worst is None or result.ratio < worst.ratio:
                worst = result
            if result.ratio == 0:
                break  # it cannot get worse, and a Chroma that is away would cost its time-out for each collection
        return worst or await self._probe()

    def _choose(self, projects: list[Project]) -> list[Project]:
        ordered = sorted(projects, key=lambda project: (project.id < self._next_project_id, project.id))
        again = [project for project in ordered if project.id in self._failing]
        fresh = [project for project in ordered if project.id not in self._failing][:COLLECTIONS_A_ROUND]
        if fresh:
            self._next_project_id = fresh[-1].id + 1
        return again[:COLLECTIONS_A_ROUND] + fresh

    async def _check(self, project: Project, model_hash: str) -> Round | None:
        """The collection's result after retries; None when it has nothing to ask for."""
        result: Round | None = None
        for attempt in range(1 + RETRIES):
            if attempt:
                await asyncio.sleep(RETRY_PAUSE_SECONDS * attempt)
            try:
                result = await self._ask(project, model_hash)
            except CollectionMissingError:
                await self._on_missing(project, model_hash)
                return Round(0.0, f"the collection of project '{project.name}' does not exist in Chroma")
            except VectorStoreError as error:
                result = Round(0.0, str(error))
            if result is None or result.is_passing:
                return result
        return result

    async def _ask(self, project: Project, model_hash: str) -> Round | None:
        settings = self._settings()
        sample = await self._database.read(
            lambda connection: sample_published(connection, project.id, model_hash, settings.canary_sample)
        )
        if not sample:
            return None
        vectors = np.stack([unpack_vector(vector) for vector in sample.values()])
        answers = await self._store.query(
            collection_name(project.uid, model_hash), vectors, NEIGHBOURS, settings.chroma_timeout_seconds
        )
        asked = set(sample) | {neighbour.chunk_id for answer in answers for neighbour in answer}
        stored = await self._database.read(
            lambda connection: stored_vectors(connection, project.id, model_hash, list(asked))
        )
        # A chunk that was deleted between the two reads says nothing.
        verdicts = [
            _found_itself(chunk_id, answer, stored)
            for chunk_id, answer in zip(sample, answers, strict=True)
            if chunk_id in stored
        ]
        if not verdicts:
            return None
        ratio = sum(verdicts) / len(verdicts)
        return Round(ratio, f"{sum(verdicts)} of {len(verdicts)} canaries of project '{project.name}' found themselves")

    async def _probe(self) -> Round:
        try:
            await self._store.probe(self._settings().chroma_timeout_seconds)
        except VectorStoreError as error:
            return Round(0.0, str(error))
        return Round(1.0)


def _found_itself(chunk_id: int, answer: list[Neighbour], stored: dict[int, bytes]) -> bool:
    """Whether the chunk, or one with the very same vector, is among the neighbours."""
    own = stored[chunk_id]
    return any(neighbour.chunk_id == chunk_id or stored.get(neighbour.chunk_id) == own for neighbour in answer)
