"""Verdicts of the canaries over a store that fails in each of the known ways; the database is real."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from knowledgebeast_service.errors import CollectionMissingError, VectorStoreError
from knowledgebeast_service.search import canary
from knowledgebeast_service.search.canary import CanaryRounds, Round
from knowledgebeast_service.search.collection_health import CollectionHealth
from knowledgebeast_service.search.placement import Collections
from knowledgebeast_service.search.vector_store import NO_NEIGHBOURS, Matrix, Neighbours, collection_name
from knowledgebeast_service.settings import LiveSettings
from knowledgebeast_service.storage import ingest_queue
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.documents import delete_document, require_project, upsert_documents
from knowledgebeast_service.storage.records import PreparedChunk, PreparedDocument, Project, Vector

MODEL = "0123456789abcdef"


@dataclass
class FakeStore:
    """Exact search over what was upserted; `fault` may raise or change the answers."""

    collections: dict[str, dict[int, Vector]] = field(default_factory=dict[str, dict[int, Vector]])
    fault: Callable[[str, list[Neighbours]], list[Neighbours]] = lambda _name, answers: answers
    asked: list[str] = field(default_factory=list[str])
    probe_error: VectorStoreError | None = None

    async def query(self, collection: str, vectors: Matrix, limit: int, timeout_seconds: float) -> list[Neighbours]:
        self.asked.append(collection)
        if collection not in self.collections:
            raise CollectionMissingError("missing")
        stored = self.collections[collection]
        ids = np.array(list(stored))
        distances = 1 - vectors @ np.stack(list(stored.values())).T
        order = np.argsort(distances, axis=1, kind="stable")[:, :limit]
        answers = [
            Neighbours.of((int(ids[place]), float(row[place])) for place in places)
            for row, places in zip(distances, order, strict=True)
        ]
        return self.fault(collection, answers)

    async def upsert(self, collection: str, chunk_ids: Sequence[int], vectors: Matrix, timeout_seconds: float) -> None:
        self.collections.setdefault(collection, {}).update(zip(chunk_ids, vectors, strict=True))

    async def delete(self, collection: str, chunk_ids: Sequence[int], timeout_seconds: float) -> None: ...
    async def create_collection(self, collection: str, timeout_seconds: float) -> None: ...
    async def drop_collection(self, collection: str, timeout_seconds: float) -> None: ...
    async def chunk_ids(self, collection: str, limit: int, offset: int, timeout_seconds: float) -> list[int]:
        return list(self.collections[collection])[offset : offset + limit]

    async def probe(self, timeout_seconds: float) -> None:
        if self.probe_error:
            raise self.probe_error

    async def close(self) -> None: ...


@dataclass
class World:
    """A database, a store that agrees with it, and the rounds over both."""

    database: Database
    store: FakeStore
    missing: list[str]
    health: CollectionHealth
    rounds: CanaryRounds

    def add(self, name: str, vectors: list[Vector]) -> Project:
        """A project with one document for each vector, published."""
        documents = [
            PreparedDocument(f"d{number}", "", "{}", (PreparedChunk("x", {"x": 1}),)) for number in range(len(vectors))
        ]
        self.database.write_now(lambda connection: upsert_documents(connection, name, documents))
        items = self.database.write_now(lambda connection: ingest_queue.lease(connection, ["embed"], "w", 1000))
        by_chunk = {item.chunk_id: vector for item, vector in zip(items, vectors, strict=True)}
        self.database.write_now(lambda connection: ingest_queue.store_vectors(connection, MODEL, items, by_chunk, "w"))
        items = self.database.write_now(lambda connection: ingest_queue.lease(connection, ["publish"], "w", 1000))
        stored = self.database.read_now(lambda connection: ingest_queue.vectors_to_publish(connection, MODEL, items))
        project = self.database.read_now(lambda connection: require_project(connection, name))
        self.store.collections[collection_name(project.uid, MODEL)] = stored
        self.database.write_now(lambda connection: ingest_queue.complete(connection, items, "w"))
        return project

    async def round(self, *projects: Project) -> Round:
        return await self.rounds.run(list(projects), MODEL)


@pytest.fixture
def world(database: Database, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(canary, "RETRY_PAUSE_SECONDS", 0.0)
    store, missing = FakeStore(), list[str]()

    async def on_missing(project: Project, _model_hash: str) -> None:
        missing.append(project.name)

    health = CollectionHealth()
    rounds = CanaryRounds(Collections(store, database), database, LiveSettings, on_missing, health)
    return World(database, store, missing, health, rounds)


def vectors(count: int, seed: int = 1) -> list[Vector]:
    values = np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32)
    return list(values / np.linalg.norm(values, axis=1, keepdims=True))


def lose(share: float) -> Callable[[str, list[Neighbours]], list[Neighbours]]:
    """Answers that lack their best hits for a share of the questions: a torn index."""

    def fault(_name: str, answers: list[Neighbours]) -> list[Neighbours]:
        lost = round(len(answers) * share)
        return [NO_NEIGHBOURS for _ in range(lost)] + answers[lost:]

    return fault


async def test_a_whole_collection_passes(world: World) -> None:
    assert (await world.round(world.add("p", vectors(30)), world.add("q", vectors(1, seed=2)))).ratio == 1
    assert len(world.store.asked) == 2


async def test_a_torn_index_fails_although_it_answers(world: World) -> None:
    project = world.add("p", vectors(100))
    world.store.fault = lose(0.5)
    result = await world.round(project)
    assert not result.is_passing
    assert 0.4 <= result.ratio <= 0.6
    assert "project 'p'" in result.reason


async def test_one_fault_in_twenty_is_the_noise_of_an_approximate_index(world: World) -> None:
    project = world.add("p", vectors(500))
    world.store.fault = lambda _name, answers: [NO_NEIGHBOURS, *answers[1:]]
    assert (await world.round(project)).is_passing


async def test_an_identical_vector_in_its_place_is_as_good(world: World) -> None:
    """Thirty copies of one text: the ten nearest need not hold the very chunk that was asked with."""
    project = world.add("p", vectors(1) * 30)
    assert (await world.round(project)).ratio == 1


async def test_a_missing_collection_fails_at_once_and_is_reported(world: World) -> None:
    project = world.add("p", vectors(5))
    world.store.collections.clear()
    result = await world.round(project)
    assert result.ratio == 0
    assert "does not exist" in result.reason
    assert (world.missing, len(world.store.asked)) == (["p"], 1)


async def test_a_fault_that_clears_on_retry_is_none(world: World) -> None:
    project = world.add("p", vectors(5))
    calls: list[int] = []

    def first_call_fails(_name: str, answers: list[Neighbours]) -> list[Neighbours]:
        calls.append(1)
        if len(calls) == 1:
            raise VectorStoreError("Failed to apply logs to the hnsw segment writer")
        return answers

    world.store.fault = first_call_fails
    assert (await world.round(project)).ratio == 1
    assert len(calls) == 2


async def test_a_store_that_is_away_costs_its_time_outs_once_not_for_each_collection(world: World) -> None:
    projects = [world.add(f"p{number}", vectors(3, number)) for number in range(5)]

    def away(_name: str, _answers: list[Neighbours]) -> list[Neighbours]:
        raise VectorStoreError("no answer within 1 s")

    world.store.fault = away
    world.store.probe_error = VectorStoreError("no answer within 1 s")
    result = await world.round(*projects)
    assert (result.ratio, result.reason, result.is_chroma_well) == (0.0, "no answer within 1 s", False)
    assert len(world.store.asked) == 1 + canary.RETRIES
    assert not world.health.failing, "Chroma is away: no collection is to blame"
    world.store.probe_error, world.store.asked = None, []
    assert not (await world.round(*projects)).is_chroma_well
    assert len(world.store.asked) == 2 * (1 + canary.RETRIES), "a second one tells that it is not the first one's fault"
    assert not world.health.failing


@pytest.mark.parametrize("fault", ["wrong answers", "no answer"])
async def test_a_collection_that_is_bad_by_itself_is_the_only_one_accused(
    world: World, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = world.add("bad", vectors(20)), world.add("good", vectors(20, seed=2))
    torn, half = collection_name(bad.uid, MODEL), lose(0.5)

    def answer(name: str, answers: list[Neighbours]) -> list[Neighbours]:
        if name != torn:
            return answers
        if fault == "no answer":
            raise VectorStoreError("status 500")
        return half(name, answers)

    world.store.fault = answer
    for _ in range(2):  # one that gives no answer before any other has given one is asked again, after them
        result = await world.round(bad, good)
        assert (result.is_passing, result.is_chroma_well) == (False, True)
    assert set(world.health.failing) == {bad.id}
    assert world.health.refusal_to_write(bad.id)
    assert world.health.refusal_to_write(good.id) is None
    world.store.asked = []
    assert not (await world.round(bad, good)).is_passing
    assert world.store.asked.count(torn) == (1 if fault == "wrong answers" else 0), "a silent one may have killed it"
    world.store.fault = lambda _name, answers: answers
    monkeypatch.setattr("time.monotonic", lambda: 1e9)
    assert (await world.round(bad, good)).is_passing
    assert not world.health.failing


async def test_a_chroma_that_starts_in_the_middle_of_a_round_accuses_nobody(world: World) -> None:
    first, second = world.add("first", vectors(5)), world.add("second", vectors(5, seed=2))

    def starting(_name: str, answers: list[Neighbours]) -> list[Neighbours]:
        if len(world.store.asked) <= 1 + canary.RETRIES:
            raise VectorStoreError("ConnectError")
        return answers

    world.store.fault = starting
    assert (await world.round(first, second)).is_chroma_well
    assert not world.health.failing
    assert (await world.round(first, second)).is_passing


async def test_a_chroma_that_dies_in_the_middle_of_a_round_opens_the_breaker_and_accuses_nobody(world: World) -> None:
    projects = [world.add(f"p{number}", vectors(3, number)) for number in range(4)]

    def dies(_name: str, answers: list[Neighbours]) -> list[Neighbours]:
        if len(world.store.asked) > 1:
            world.store.probe_error = VectorStoreError("ConnectError")
            raise VectorStoreError("ConnectError")
        return answers

    world.store.fault = dies
    assert not (await world.round(*projects)).is_chroma_well
    assert not world.health.failing
    assert len(set(world.store.asked)) == 2, "those after it are not asked"


async def test_the_only_collection_is_accused_when_chroma_dies_each_time_that_it_is_asked(world: World) -> None:
    """It is then left alone, or a Chroma that is started again would die again before anything could be rebuilt."""
    project = world.add("only", vectors(5))

    def dies(_name: str, _answers: list[Neighbours]) -> list[Neighbours]:
        world.store.probe_error = VectorStoreError("ConnectError")
        raise VectorStoreError("RemoteProtocolError")

    world.store.fault = dies
    for number in range(1, 4):
        world.store.probe_error = None  # it was started again
        assert not (await world.round(project)).is_passing
        assert bool(world.health.failing) == (number == 3)
        world.store.asked = []
        assert not (await world.round(project)).is_passing, "away, which is known without asking the collection"
        assert world.store.asked == []
    world.store.probe_error = None
    assert not (await world.round(project)).is_passing
    assert world.store.asked == []
    assert world.health.refusal_to_write(project.id)


async def test_a_missing_collection_beside_a_good_one_is_filled_again(world: World) -> None:
    bad, good = world.add("bad", vectors(5)), world.add("good", vectors(5, seed=2))
    del world.store.collections[collection_name(bad.uid, MODEL)]
    assert (await world.round(bad, good)).is_chroma_well
    assert world.missing == ["bad"]
    assert world.health.reason(bad.id)
    assert world.health.refusal_to_write(bad.id) is None, "or nothing would ever make it"


async def test_a_deleted_project_fails_no_more(world: World) -> None:
    bad, good = world.add("bad", vectors(20)), world.add("good", vectors(20, seed=2))
    torn, half = collection_name(bad.uid, MODEL), lose(0.5)
    world.store.fault = lambda name, answers: half(name, answers) if name == torn else answers
    await world.round(bad, good)
    assert (await world.round(good)).is_passing
    assert not world.health.failing


async def test_every_collection_gets_its_turn_and_a_failing_one_every_turn(world: World) -> None:
    projects = [world.add(f"p{number:02}", vectors(2, number)) for number in range(20)]
    torn = collection_name(projects[0].uid, MODEL)
    half = lose(0.5)
    world.store.fault = lambda name, answers: half(name, answers) if name == torn else answers
    ratios = [(await world.round(*projects)).ratio for _ in range(4)]
    assert ratios == [0.5] * 4
    assert len(set(world.store.asked)) == 20
    world.store.fault = lambda _name, answers: answers
    assert (await world.round(*projects)).ratio == 1


async def test_without_vectors_a_read_through_chromas_database_decides(world: World) -> None:
    assert await world.rounds.run([], None) == Round(1.0)
    world.store.probe_error = VectorStoreError("status 500")
    assert await world.rounds.run([], MODEL) == Round(0.0, "status 500", has_answer=False)


async def test_a_chunk_deleted_while_it_was_asked_for_says_nothing(world: World) -> None:
    project = world.add("p", vectors(2))

    def delete_meanwhile(_name: str, answers: list[Neighbours]) -> list[Neighbours]:
        world.store.fault = lambda _name, answers: answers
        world.database.write_now(lambda connection: delete_document(connection, "p", "d0"))
        return [answer.take(answer.chunk_ids != 1) for answer in answers]

    world.store.fault = delete_meanwhile
    assert (await world.round(project)).ratio == 1
