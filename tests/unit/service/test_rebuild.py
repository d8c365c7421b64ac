"""A rebuild over a store in memory: killed at every call, beside writers, refused, and taken back."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from exact_store import ExactStore, Killed
from knowledgebeast_service.maintenance import fill
from knowledgebeast_service.maintenance.rebuild import PARTITION, REBUILD, RETURN, Rebuild, rebuild
from knowledgebeast_service.maintenance.result import TaskResult
from knowledgebeast_service.search.placement import Collections, names_of
from knowledgebeast_service.search.vector_store import NO_NEIGHBOURS, Matrix, Neighbours, collection_name
from knowledgebeast_service.storage import generations, ingest_queue
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.documents import delete_document, require_project
from knowledgebeast_service.storage.generations import Generation
from knowledgebeast_service.storage.records import Project
from knowledgebeast_service.storage.vector_rows import vector_ids, vectors_of
from vector_seed import random_vectors, seed_project

MODEL = "0123456789abcdef"
VECTORS = random_vectors(60, dimension=16)


@pytest.fixture(autouse=True)
def _small_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fill, "BATCH", 25)
    monkeypatch.setattr(fill, "LONGEST_PAUSE_SECONDS", 0.001)


class World:
    """A project whose vectors lie in generation 0."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.store = ExactStore()
        self.collections = Collections(self.store, database)
        self.project = seed_project(database, "p", MODEL, VECTORS)
        self.first = collection_name(self.project.uid, MODEL)
        ids, stored = database.read_now(lambda c: vectors_of(c, self.project, MODEL, self.wanted_by(c)))
        self.store.collections[self.first] = dict(zip(ids, stored, strict=True))
        self.settle()

    def settle(self) -> None:
        """The worker has done all it had to do."""
        self.database.write_now(lambda connection: connection.execute("DELETE FROM ingest_queue"))

    def wanted(self) -> list[int]:
        return self.database.read_now(self.wanted_by)

    def wanted_by(self, connection: Connection) -> list[int]:
        return sorted(vector_ids(connection, self.project, MODEL))

    def serving(self) -> Generation:
        uid = self.project.uid
        return self.database.read_now(lambda connection: generations.serving_generation(connection, uid, MODEL))

    def held(self) -> list[int]:
        names = names_of(self.serving())
        return sorted(chunk_id for name in names for chunk_id in self.store.collections[name])

    def seq(self) -> int:
        return self.database.read_now(lambda connection: require_project(connection, "p")).seq

    async def run(self, attempt: str, task: str = REBUILD, parts: int | None = None) -> TaskResult:
        # As a new process would: nothing is remembered but what lies in the database and in Chroma.
        return await rebuild(self.database, Collections(self.store, self.database), Rebuild(task, "p", attempt, parts))


@pytest.fixture
def make() -> Callable[[Path], World]:
    def build(path: Path) -> World:
        opened = Database(path)
        opened.open(volume_lock_wait_seconds=0)
        return World(opened)

    return build


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


async def test_a_rebuilt_collection_holds_the_vectors_of_the_database_and_serves(world: World) -> None:
    world.store.collections[world.first] = {}  # torn: it answers, with nothing
    before = world.seq()
    result = await world.run("a")
    assert result.ok, result
    assert result.measured["added"] == result.measured["vectors"] == len(VECTORS)
    assert (result.measured["canaries"], result.measured["recall_at_10"]) == (1.0, 1.0)
    assert result.measured["kept"] == [world.first]
    assert world.held() == world.wanted()
    assert world.seq() == before + 1


async def is_killed(run: Awaitable[TaskResult]) -> bool:
    try:
        await run
    except (Killed, BaseExceptionGroup):
        return True
    return False


@pytest.mark.parametrize("after", [False, True])
async def test_killed_at_any_call_and_run_again_it_ends_the_same(
    tmp_path: Path, after: bool, make: Callable[[Path], World]
) -> None:
    kills, call = 0, 1
    while True:
        world = make(tmp_path / f"{after}-{call}" / "kb.db")
        world.store.kill_at, world.store.kill_after = call, after
        killed = await is_killed(world.run("a", PARTITION, 2))
        is_past_the_end = world.store.calls < call
        assert not killed or world.serving().number == 0, "never half"
        assert (await world.run("a", PARTITION, 2)).ok, call
        assert (world.serving().number, world.serving().parts) == (1, 2)
        assert world.held() == world.wanted()
        world.database.close()
        if is_past_the_end:
            break
        kills, call = kills + killed, call + 1
    assert kills >= 10


async def test_what_is_written_and_deleted_meanwhile_ends_in_both(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task is held up in the middle of its fill; documents come and go; the queue is not yet worked off."""
    upsert = world.store.upsert
    done: list[int] = []

    async def meanwhile(collection: str, chunk_ids: list[int], vectors: object, timeout_seconds: float) -> None:
        await upsert(collection, chunk_ids, vectors, timeout_seconds)  # pyright: ignore[reportArgumentType]
        if not done:
            done.append(1)
            seed_project(world.database, "p", MODEL, random_vectors(5, 2, 16), first=1000)
            gone = world.database.write_now(lambda connection: delete_document(connection, "p", "d0"))
            assert gone
            world.settle()  # as if the worker had sent all that to the serving collection alone, and died

    monkeypatch.setattr(world.store, "upsert", meanwhile)
    result = await world.run("a")
    assert result.ok, result
    assert world.held() == world.wanted()
    assert len(world.held()) == len(VECTORS) + 5 - 1


async def test_what_the_worker_is_about_to_write_is_left_to_it(world: World) -> None:
    seed_project(world.database, "p", MODEL, random_vectors(5, 2, 16), first=1000)
    assert (await world.run("a")).ok
    held = world.serving()
    items = world.database.write_now(lambda connection: ingest_queue.lease(connection, ["publish"], "w", 100))
    assert len(items) == 5
    written = await world.collections.written(world.project.uid, MODEL)
    assert written == [held], "after the swap the new one is the only one to write to"


async def test_a_chroma_that_is_away_ends_the_run_not_the_attempt(world: World) -> None:
    world.store.is_away = True
    result = await world.run("a")
    assert not result.ok
    assert "Chroma is away. Run it again under the same id" in str(result.measured["error"])
    assert world.serving().number == 0
    world.store.is_away = False
    assert (await world.run("a")).ok
    assert world.serving().number == 1


async def test_a_new_collection_that_does_not_find_its_canaries_never_serves(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = world.store.query

    async def torn(collection: str, vectors: Matrix, limit: int, timeout_seconds: float) -> list[Neighbours]:
        if collection == world.first:
            return await query(collection, vectors, limit, timeout_seconds)
        return [NO_NEIGHBOURS for _ in vectors]

    monkeypatch.setattr(world.store, "query", torn)
    result = await world.run("a")
    assert not result.ok
    assert "only 0% of the canaries" in str(result.measured["error"])
    assert world.serving().number == 0


async def test_a_second_attempt_is_refused_while_the_first_goes_on(world: World) -> None:
    def begin(connection: Connection) -> object:
        return generations.begin_rebuild(connection, world.project, MODEL, 1, "a")

    world.database.write_now(begin)
    result = await world.run("b")
    assert not result.ok
    assert result.refused is not None
    assert "attempt a is rebuilding" in result.refused


async def test_partitioning_keeps_the_answers_and_can_be_taken_back_with_what_changed_since(world: World) -> None:
    async def top(project: Project) -> list[list[int]]:
        answers = await world.collections.query(project, MODEL, VECTORS[:20], 10, 1)
        return [[neighbour.chunk_id for neighbour in answer] for answer in answers]

    before = await top(world.project)
    result = await world.run("split", PARTITION, 4)
    assert result.ok
    assert result.measured["recall_at_10_before"] == result.measured["recall_at_10"] == 1.0
    now = world.database.read_now(lambda connection: require_project(connection, "p"))
    assert await top(now) == before
    assert all(world.store.collections[name] for name in names_of(world.serving()))
    world.database.write_now(lambda connection: delete_document(connection, "p", "d1"))
    seed_project(world.database, "p", MODEL, random_vectors(3, 3, 16), first=2000)
    world.settle()
    returned = await world.run("undo", RETURN)
    assert returned.ok, returned
    assert (returned.measured["added"], returned.measured["removed"]) == (3, 1)
    assert (world.serving().number, world.serving().parts) == (0, 1)
    assert world.held() == world.wanted()


async def test_a_project_that_is_not_there_or_has_no_vectors_is_refused(database: Database) -> None:
    store = Collections(ExactStore(), database)
    absent = await rebuild(database, store, Rebuild(REBUILD, "p", "a"))
    assert absent.refused is not None
    assert "POST /api/v1/projects" in absent.refused
    seed_project(database, "p", MODEL, random_vectors(0, dimension=16))
    empty = await rebuild(database, store, Rebuild(REBUILD, "p", "a"))
    assert empty.refused is not None
    assert "no vectors yet" in empty.refused
