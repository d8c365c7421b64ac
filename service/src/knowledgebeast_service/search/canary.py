"""Canaries: stored chunks that must find themselves in Chroma.

Chroma's own health endpoints say 200 over a torn index, a missing segment and an emptied database; only a query with
a known answer tells. Real chunks of every collection serve, so that no probe documents lie in users' data.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import numpy as np

from knowledgebeast_service.errors import CollectionMissingError, VectorStoreError
from knowledgebeast_service.search.collection_health import CollectionHealth, Failing
from knowledgebeast_service.search.placement import Collections, names_of
from knowledgebeast_service.search.silences import Silences
from knowledgebeast_service.search.vector_store import Neighbours, part_of
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
    """Result of one round: the worst collection's share of canaries that found themselves.

    `has_answer` is False where Chroma gave none at all. `is_chroma_well` says that another collection passes in the
    same round, so that what fails does so by itself.
    """

    ratio: float
    reason: str = ""
    has_answer: bool = True
    is_missing: bool = False
    is_chroma_well: bool = False

    @property
    def is_passing(self) -> bool:
        return self.ratio >= PASSING_RATIO


class CanaryRounds:
    """Checks a few collections a round, in rotation, and those that failed last in every round.

    A wrong answer accuses the collection. No answer accuses Chroma, unless it has answered others before in the same
    round, or answers each time until this one is asked: see `Silences`.
    """

    def __init__(
        self,
        collections: Collections,
        database: Database,
        settings: Callable[[], LiveSettings],
        on_missing: Callable[[Project, str], Awaitable[None]],
        health: CollectionHealth,
    ) -> None:
        self._collections = collections
        self._database = database
        self._settings = settings
        self._on_missing = on_missing
        self._health = health
        self._silences = Silences()
        self._next_project_id = 0

    async def run(self, projects: list[Project], model_hash: str | None) -> Round:
        """One round over `projects`; without any vector to ask for, a read through Chroma's database decides."""
        known = {project.id for project in projects}
        self._health.forget_all_but(known)
        self._silences.forget_all_but(known)
        if self._silences.has_suspects and not (probed := await self._probe()).is_passing:
            return probed  # it is away before any collection is asked
        failed: list[tuple[Project, Round]] = []
        accused: list[tuple[Project, Round]] = []
        passed: Round | None = None
        silent, is_up = 0, True
        for project in self._choose(projects) if model_hash else []:
            if await self._is_left_alone(project, model_hash or ""):
                failed.append((project, Round(0.0, self._health.failure(project.id) or "", has_answer=False)))
                continue
            result = await self._check(project, model_hash or "")
            if result is None or result.is_passing:
                self._health.passed(project.id)
                self._silences.spoke(project.id)
                passed = passed or result
                continue
            failed.append((project, result))
            if not result.has_answer:
                silent += 1
                if silent == 1:
                    self._silences.suspect(project.id)
                is_up = (await self._probe()).is_passing
                if not is_up or (passed is None and silent > 1):
                    break  # a Chroma that is away would cost its time-out for each collection
            if result.has_answer or passed is not None:
                accused.append((project, result))
        accused += [one for one in failed if one not in accused and self._silences.is_guilty(one[0].id)]
        for project, result in accused:
            await self._accuse(project, model_hash or "", result)
        if failed:
            worst = min((result for _, result in failed), key=lambda result: result.ratio)
            return replace(worst, is_chroma_well=passed is not None and is_up)
        return passed or await self._probe()

    async def _is_left_alone(self, project: Project, model_hash: str) -> bool:
        """One that may kill Chroma is asked again after a while, or when another generation has replaced it."""
        generation = await self._collections.serving(project, model_hash)
        return self._silences.is_left_alone(project.id, generation, time.monotonic())

    async def _accuse(self, project: Project, model_hash: str, result: Round) -> None:
        if not result.has_answer:
            generation = await self._collections.serving(project, model_hash)
            interval = self._settings().canary_interval_seconds
            self._silences.leave_alone(project.id, generation, time.monotonic(), interval)
            result = replace(
                result, reason=f"the collection of project '{project.name}' gives no answer: {result.reason}"
            )
        self._health.failed(project.id, Failing(result.reason, result.is_missing))

    def _choose(self, projects: list[Project]) -> list[Project]:
        """Fresh ones first: they tell whether Chroma is well at all. A suspect comes after them."""
        ordered = sorted(projects, key=lambda project: (project.id < self._next_project_id, project.id))
        again = [project for project in ordered if self._health.failure(project.id)]
        fresh = [project for project in ordered if not self._health.failure(project.id)][:COLLECTIONS_A_ROUND]
        if fresh:
            self._next_project_id = fresh[-1].id + 1
        fresh.sort(key=lambda project: self._silences.is_suspect(project.id))
        return fresh + again[:COLLECTIONS_A_ROUND]

    async def _check(self, project: Project, model_hash: str) -> Round | None:
        """The collection's result after retries; None when it has nothing to ask for.

        One that failed last, or is suspected to kill Chroma, is asked once.
        """
        result: Round | None = None
        is_known = self._health.failure(project.id) or self._silences.is_suspect(project.id)
        for attempt in range(1 if is_known else 1 + RETRIES):
            if attempt:
                await asyncio.sleep(RETRY_PAUSE_SECONDS * attempt)
            try:
                result = await self._ask(project, model_hash)
            except CollectionMissingError:
                await self._on_missing(project, model_hash)
                return Round(
                    0.0, f"the collection of project '{project.name}' does not exist in Chroma", is_missing=True
                )
            except VectorStoreError as error:
                result = Round(0.0, str(error), has_answer=False)
            if result is None or result.is_passing:
                return result
        return result

    async def _ask(self, project: Project, model_hash: str) -> Round | None:
        """The worst part's result: one of many that has lost everything would not show among all of them."""
        settings = self._settings()
        generation = await self._collections.serving(project, model_hash)
        sample = await self._database.read(
            lambda connection: sample_published(
                connection, project.id, model_hash, settings.canary_sample * generation.parts
            )
        )
        parts = part_of(list(sample), generation.parts)
        worst: Round | None = None
        for part, name in enumerate(names_of(generation)):
            own = {chunk_id: sample[chunk_id] for chunk_id, of in zip(sample, parts, strict=True) if of == part}
            result = await self._ask_part(project, model_hash, name, own) if own else None
            if result is not None and (worst is None or result.ratio < worst.ratio):
                worst = result
        return worst

    async def _ask_part(
        self, project: Project, model_hash: str, collection: str, sample: dict[int, bytes]
    ) -> Round | None:
        vectors = np.stack([unpack_vector(vector) for vector in sample.values()])
        timeout_seconds = self._settings().chroma_timeout_seconds
        answers = await self._collections.store.query(collection, vectors, NEIGHBOURS, timeout_seconds)
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
            await self._collections.store.probe(self._settings().chroma_timeout_seconds)
        except VectorStoreError as error:
            return Round(0.0, str(error), has_answer=False)
        return Round(1.0)


def _found_itself(chunk_id: int, answer: Neighbours, stored: dict[int, bytes]) -> bool:
    """Whether the chunk, or one with the very same vector, is among the neighbours."""
    own = stored[chunk_id]
    return any(neighbour.chunk_id == chunk_id or stored.get(neighbour.chunk_id) == own for neighbour in answer)
