"""Generations and parts: where reads and writes go before, during and after a rebuild. The database is real."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from knowledgebeast_service.errors import CollectionMissingError
from knowledgebeast_service.search.placement import Collections, merge, names_of
from knowledgebeast_service.search.vector_store import Matrix, Neighbours, collection_name, part_of
from knowledgebeast_service.storage import generations
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.documents import ensure_project, require_project
from knowledgebeast_service.storage.generations import Generation, Refusal
from knowledgebeast_service.storage.records import Project

MODEL = "0123456789abcdef"


@dataclass
class Names:
    """A store that remembers which collections exist and who holds what."""

    held: dict[str, set[int]] = field(default_factory=dict[str, set[int]])

    async def query(self, collection: str, vectors: Matrix, limit: int, timeout_seconds: float) -> list[Neighbours]:
        return [Neighbours.of((one, one / 100) for one in sorted(self._of(collection))[:limit])]

    async def upsert(self, collection: str, chunk_ids: Sequence[int], vectors: Matrix, timeout_seconds: float) -> None:
        self._of(collection).update(chunk_ids)

    async def delete(self, collection: str, chunk_ids: Sequence[int], timeout_seconds: float) -> None:
        self._of(collection).difference_update(chunk_ids)

    async def create_collection(self, collection: str, timeout_seconds: float) -> None:
        self.held.setdefault(collection, set())

    async def drop_collection(self, collection: str, timeout_seconds: float) -> None:
        self._of(collection)
        del self.held[collection]

    async def chunk_ids(self, collection: str, limit: int, offset: int, timeout_seconds: float) -> list[int]:
        return sorted(self._of(collection))[offset : offset + limit]

    async def probe(self, timeout_seconds: float) -> None: ...
    async def close(self) -> None: ...

    def _of(self, collection: str) -> set[int]:
        if collection not in self.held:
            raise CollectionMissingError(collection)
        return self.held[collection]


@pytest.fixture
def project(database: Database) -> Project:
    return database.write_now(lambda connection: ensure_project(connection, "p"))[0]


def again(database: Database) -> Project:
    return database.read_now(lambda connection: require_project(connection, "p"))


def begin(database: Database, project: Project, attempt: str, parts: int = 1) -> Generation:
    begun = database.write_now(lambda c: generations.begin_rebuild(c, project, MODEL, parts, attempt))
    assert isinstance(begun, Generation), begun
    return begun


def refused(database: Database, project: Project, attempt: str) -> str:
    begun = database.write_now(lambda c: generations.begin_rebuild(c, project, MODEL, 1, attempt))
    assert isinstance(begun, Refusal)
    return begun.reason


def states(database: Database, project: Project) -> dict[int, str]:
    return {one.number: one.state for one in database.read_now(lambda c: generations.all_generations(c, project.uid))}


def test_without_a_row_generation_0_serves_under_the_name_that_it_always_had(
    database: Database, project: Project
) -> None:
    serving = database.read_now(lambda c: generations.serving_generation(c, project.uid, MODEL))
    assert names_of(serving) == [collection_name(project.uid, MODEL)] == [f"kb-{project.uid}-{MODEL}"]


def test_parts_are_stable_even_and_have_names_of_their_own() -> None:
    """The numbers are on disk: this function may never change."""
    assert part_of([1, 2, 3, 4, 5, 1000], 4).tolist() == [1, 2, 0, 1, 3, 1]
    counts = np.bincount(part_of(range(1, 10_001), 8))
    assert counts.min() > 1100
    assert counts.max() < 1400
    assert len(set(names_of(Generation("u", MODEL, 1, 8)) + names_of(Generation("u", MODEL, 1, 4)))) == 12


def test_writes_go_to_the_serving_and_to_the_building_one_and_reads_to_the_serving_one(
    database: Database, project: Project
) -> None:
    begin(database, project, "a")
    written = database.read_now(lambda c: generations.written_generations(c, project.uid, MODEL))
    assert [(one.number, one.state) for one in written] == [(0, "serving"), (1, "building")]
    assert states(database, project) == {0: "serving", 1: "building"}


def test_a_swap_happens_once_and_moves_the_sequence_on(database: Database, project: Project) -> None:
    building = begin(database, project, "a")
    assert database.write_now(lambda c: generations.swap(c, project, building))
    assert states(database, project) == {0: "kept", 1: "serving"}
    after = again(database)
    assert after.seq == project.seq + 1
    assert not database.write_now(lambda c: generations.swap(c, project, building))
    assert again(database) == after
    assert begin(database, project, "a").state == "serving", "the same attempt finds that it has ended"


def test_a_second_rebuild_waits_for_the_first_unless_that_has_fallen_silent(
    database: Database, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = begin(database, project, "a")
    assert "attempt a is rebuilding" in refused(database, project, "b")
    monkeypatch.setattr(generations, "ABANDONED_SECONDS", -1.0)
    begin(database, project, "b")
    assert states(database, project) == {0: "serving", 1: "dropping", 2: "building"}
    assert not database.write_now(lambda c: generations.swap(c, project, first)), "the silent one may not come back"


def test_going_back_takes_the_newest_kept_one(database: Database, project: Project) -> None:
    for attempt in ("a", "b"):
        building = begin(database, project, attempt)
        database.write_now(lambda c, one=building: generations.swap(c, project, one))
    back = database.write_now(lambda c: generations.begin_return(c, project, MODEL, "back"))
    assert isinstance(back, Generation)
    assert (back.number, back.state) == (1, "building")
    assert database.write_now(lambda c: generations.swap(c, project, back))
    assert states(database, project) == {0: "kept", 1: "serving", 2: "kept"}


def test_going_back_is_refused_where_nothing_is_kept(database: Database, project: Project) -> None:
    refusal = database.write_now(lambda c: generations.begin_return(c, project, MODEL, "back"))
    assert isinstance(refusal, Refusal)
    assert "rebuild it instead" in refusal.reason


def test_a_kept_one_is_dropped_after_its_time(database: Database, project: Project) -> None:
    building = begin(database, project, "a")
    database.write_now(lambda c: generations.swap(c, project, building))
    assert not database.read_now(lambda c: generations.has_generations_to_drop(c, 3600))
    assert database.read_now(lambda c: generations.has_generations_to_drop(c, -1))
    due = database.write_now(lambda c: generations.generations_to_drop(c, -1))
    assert [one.number for one in due] == [0]
    database.write_now(lambda c: generations.forget_generations(c, due))
    assert states(database, project) == {1: "serving"}


async def test_a_query_asks_all_parts_and_a_replica_follows_the_swap(database: Database, project: Project) -> None:
    store = Names()
    collections = Collections(store, database)
    old = await collections.serving(project, MODEL)
    await collections.create(old, 1)
    await collections.upsert(old, [1, 2, 3], np.zeros((3, 4), np.float32), 1)
    building = begin(database, project, "a", parts=3)
    await collections.create(building, 1)
    await collections.upsert(building, [1, 2, 3, 4], np.zeros((4, 4), np.float32), 1)
    assert [len(store.held[name]) for name in names_of(building)] == np.bincount(part_of([1, 2, 3, 4], 3)).tolist()

    async def found(as_of: Project) -> list[int]:
        answers = await collections.query(as_of, MODEL, np.zeros((1, 4), np.float32), 10, 1)
        return [neighbour.chunk_id for neighbour in answers[0]]

    assert await found(project) == [1, 2, 3]
    database.write_now(lambda c: generations.swap(c, project, building))
    assert await found(project) == [1, 2, 3], "a view from before the swap still finds the kept one"
    assert await found(again(database)) == [1, 2, 3, 4]


async def test_a_view_from_before_the_swap_goes_on_when_the_old_one_is_dropped(
    database: Database, project: Project
) -> None:
    store = Names()
    collections = Collections(store, database)
    building = begin(database, project, "a")
    await collections.create(building, 1)
    await collections.upsert(building, [7], np.zeros((1, 4), np.float32), 1)
    with pytest.raises(CollectionMissingError):
        await collections.query(project, MODEL, np.zeros((1, 4), np.float32), 10, 1)
    database.write_now(lambda c: generations.swap(c, project, building))
    answers = await collections.query(project, MODEL, np.zeros((1, 4), np.float32), 10, 1)
    assert [neighbour.chunk_id for neighbour in answers[0]] == [7]


def test_merging_keeps_the_nearest_of_all_parts() -> None:
    parts = [[Neighbours.of([(1, 0.1), (4, 0.4)])], [Neighbours.of([(3, 0.1), (2, 0.2)])]]
    assert [list(one) for one in merge(parts, 3)] == [[(1, 0.1), (3, 0.1), (2, 0.2)]]
