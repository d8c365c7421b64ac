"""Chunks that fail by themselves, and a model or Chroma that fails for all: real database and stages, a faulty edge."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import pytest

from knowledgebeast_service.embedding.loading import Loaded
from knowledgebeast_service.embedding.manifest import Manifest
from knowledgebeast_service.embedding.model import EmbeddingModel
from knowledgebeast_service.errors import CollectionMissingError, ModelUnavailableError, VectorStoreError
from knowledgebeast_service.ingest import publish_stage
from knowledgebeast_service.ingest.embed_stage import EmbedStage
from knowledgebeast_service.ingest.isolate import REFUSALS_WITHOUT_SUCCESS, isolate
from knowledgebeast_service.ingest.leases import Leases
from knowledgebeast_service.ingest.publish_stage import PublishStage
from knowledgebeast_service.main import create_app
from knowledgebeast_service.search.collection_health import CollectionHealth
from knowledgebeast_service.search.placement import Collections
from knowledgebeast_service.search.vector_store import Matrix, Neighbours
from knowledgebeast_service.settings import LiveSettings, Settings
from knowledgebeast_service.storage import dead_letters, ingest_queue, queries
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.documents import delete_document, upsert_documents
from knowledgebeast_service.storage.records import DeadLetter, PreparedChunk, PreparedDocument, TaskProgress
from knowledgebeast_service.telemetry.metrics import Metrics

TRIES = 3


@dataclass
class FaultyEmbedder:
    """Fails for texts with a word of `fails_on`; `everything` makes it fail for all."""

    fails_on: set[str] = field(default_factory=set[str])
    everything: bool = False
    makes_nan: set[str] = field(default_factory=set[str])
    model_hash: str = "0123456789abcdef"
    backend: str = "fp32"
    device: str = "cpu"

    @property
    def manifest(self) -> Manifest:
        return Manifest(
            model="m", model_hash=self.model_hash, dimension=2, max_tokens=256, graphs={}, weights_sha256="", files={}
        )

    def embed(self, texts: Sequence[str]) -> Matrix:
        if self.everything or any(self.fails_on & set(text.split()) for text in texts):
            raise RuntimeError("the network has a bad day")
        return np.array([[np.nan if self.makes_nan & set(text.split()) else 1, 0] for text in texts], np.float32)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]


@dataclass
class FaultyStore:
    """Keeps ids; refuses those in `refuses`, or all of a collection in `broken`, or everything when `is_down`."""

    collections: dict[str, set[int]] = field(default_factory=dict[str, set[int]])
    refuses: set[int] = field(default_factory=set[int])
    broken: set[str] = field(default_factory=set[str])
    is_full: bool = False
    is_down: bool = False
    upserts: int = 0

    async def upsert(self, collection: str, chunk_ids: Sequence[int], vectors: Matrix, timeout_seconds: float) -> None:
        self.upserts += 1
        if collection not in self.collections:
            raise CollectionMissingError("missing")
        if self.is_down or self.is_full or self.refuses & set(chunk_ids) or collection in self.broken:
            raise VectorStoreError("refused")
        self.collections[collection] |= set(chunk_ids)

    async def create_collection(self, collection: str, timeout_seconds: float) -> None:
        if self.is_down:
            raise VectorStoreError("connection refused")
        self.collections.setdefault(collection, set())

    async def probe(self, timeout_seconds: float) -> None:
        if self.is_down:
            raise VectorStoreError("connection refused")

    async def query(self, collection: str, vectors: Matrix, limit: int, timeout_seconds: float) -> list[Neighbours]: ...  # pyright: ignore[reportReturnType]
    async def delete(self, collection: str, chunk_ids: Sequence[int], timeout_seconds: float) -> None: ...
    async def drop_collection(self, collection: str, timeout_seconds: float) -> None: ...
    async def chunk_ids(self, collection: str, limit: int, offset: int, timeout_seconds: float) -> list[int]:
        return sorted(self.collections[collection])[offset : offset + limit]

    async def close(self) -> None: ...


class World:
    """Both stages over one database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.embedder = FaultyEmbedder()
        self.store = FaultyStore()
        self.model = EmbeddingModel(lambda: Loaded(self.embedder), Metrics())
        limits = LiveSettings(ingest_max_tries=TRIES)
        leases = Leases(database, "worker", lambda: limits, 60)
        self.embedding = EmbedStage(database, self.model, leases)
        collections = Collections(self.store, database)
        self.publishing = PublishStage(database, self.model, collections, leases, lambda: limits, CollectionHealth())
        self.model.on_loaded(self.embedding.requeue_for)

    def ingest(self, *texts: str, project: str = "p") -> str:
        documents = [
            PreparedDocument(text.split()[0], "", "{}", (PreparedChunk(text, dict.fromkeys(text.split(), 1)),))
            for text in texts
        ]
        return self.database.write_now(lambda connection: upsert_documents(connection, project, documents)).task_id

    async def embed(self) -> None:
        while await self.embedding.step():
            pass

    async def publish(self) -> None:
        while await self.publishing.step():
            pass

    def queued(self) -> dict[int, tuple[str, int]]:
        return self.database.read_now(
            lambda connection: {
                row[0]: (row[1], row[2]) for row in connection.rows("SELECT chunk_id, op, tries FROM ingest_queue")
            }
        )

    def dead(self, project: str = "p") -> list[DeadLetter]:
        return self.database.read_now(
            lambda connection: dead_letters.list_dead_letters(connection, project, after=0, limit=10)
        )

    def retry(self, chunk_ids: list[int] | None = None) -> int:
        return self.database.write_now(lambda connection: dead_letters.retry_dead_letters(connection, "p", chunk_ids))

    def task(self, task_id: str) -> TaskProgress:
        return self.database.read_now(lambda connection: queries.get_task(connection, task_id))

    def published(self) -> set[int]:
        return set[int]().union(*self.store.collections.values())


@pytest.fixture
async def world(database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(dead_letters, "FIRST_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(publish_stage, "STEP_BACK_SECONDS", 0.0)
    made = World(database)
    await made.model.try_load()
    yield made
    made.model.close()


async def test_a_chunk_that_cannot_be_embedded_takes_no_other_with_it(world: World) -> None:
    world.embedder.fails_on = {"poison"}
    task_id = world.ingest("a fine", "b poison", "c fine", "d fine")
    await world.embed()
    await world.publish()
    assert world.published() == {1, 3, 4}
    assert world.queued() == {}
    [letter] = world.dead()
    assert (letter.document_id, letter.op, letter.tries) == ("b", "embed", TRIES)
    assert "bad day" in letter.reason
    task = world.task(task_id)
    assert (task.total, task.pending, [error["id"] for error in task.errors]) == (4, 0, ["b"])
    found = world.database.read_now(lambda connection: queries.get_document(connection, "p", "b"))
    assert (found.text, found.is_indexed) == ("b poison", False)


async def test_a_vector_with_numbers_that_are_none_never_gets_in(world: World) -> None:
    world.embedder.makes_nan = {"odd"}
    world.ingest("a fine", "b odd")
    await world.embed()
    assert [letter.document_id for letter in world.dead()] == ["b"]


async def test_a_model_that_fails_for_all_is_not_a_try(world: World) -> None:
    world.embedder.everything = True
    world.ingest("a fine", "b fine")
    for _ in range(TRIES + 1):
        with pytest.raises(ModelUnavailableError):
            await world.embed()
    assert world.queued() == {1: ("embed", 0), 2: ("embed", 0)}
    world.embedder.everything = False
    await world.embed()
    assert world.queued() == {1: ("publish", 0), 2: ("publish", 0)}


async def test_a_vector_that_chroma_refuses_takes_no_other_with_it(world: World) -> None:
    world.store.refuses = {2}
    world.ingest(*(f"d{number} fine" for number in range(40)))
    await world.embed()
    await world.publish()
    assert world.published() == set(range(1, 41)) - {2}
    assert [(letter.chunk_id, letter.op) for letter in world.dead()] == [(2, "publish")]
    assert world.store.upserts < 60


@pytest.mark.parametrize("has_published_before", [True, False])
@pytest.mark.parametrize("fault", ["is_down", "is_full"])
async def test_a_chroma_that_refuses_everything_is_not_a_try(
    world: World, has_published_before: bool, fault: str
) -> None:
    """A full disk lets Chroma answer its probe and refuse every vector."""
    if has_published_before:
        world.ingest("z fine")
        await world.embed()
        await world.publish()
    world.ingest(*(f"d{number} fine" for number in range(100)))
    await world.embed()
    before = world.queued()
    setattr(world.store, fault, True)
    for _ in range(TRIES + 1):
        with pytest.raises(VectorStoreError):
            await world.publish()
    assert world.queued() == before
    assert world.dead() == []
    assert world.store.upserts <= 3 + (TRIES + 1) * 2 * REFUSALS_WITHOUT_SUCCESS
    setattr(world.store, fault, False)
    await world.publish()
    assert world.queued() == {}


async def test_a_project_whose_collection_is_broken_lets_the_others_pass(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish_stage, "STEP_BACK_SECONDS", 60.0)
    world.ingest("a fine", project="bad")
    world.ingest("b fine", project="good")
    await world.embed()
    await world.publish()
    [broken] = [name for name, ids in world.store.collections.items() if ids == {1}]
    world.store.broken = {broken}
    world.ingest(*(f"x{number} fine" for number in range(300)), project="bad")
    world.ingest("c fine", project="good")
    await world.embed()
    with pytest.raises(VectorStoreError):
        await world.publish()  # a batch of the broken project alone
    await world.publish()
    assert 303 in world.published()
    assert {tries for _, tries in world.queued().values()} == {0}
    assert world.dead("bad") == []


async def test_a_dead_letter_is_taken_up_again_with_all_its_tries(world: World) -> None:
    world.embedder.fails_on = {"poison"}
    world.ingest("a poison", "b poison")
    await world.embed()
    assert world.retry([2, 999]) == 1
    await world.embed()
    assert [(letter.chunk_id, letter.tries) for letter in world.dead()] == [(1, TRIES), (2, TRIES)]
    world.embedder.fails_on = set()
    assert world.retry() == 2
    assert world.dead() == []
    await world.embed()
    await world.publish()
    assert world.published() == {1, 2}


async def test_between_tries_a_chunk_waits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    world.embedder.fails_on = {"poison"}
    world.ingest("a poison", "b fine")
    await world.embed()
    assert world.queued() == {1: ("embed", 1), 2: ("publish", 0)}
    assert not await world.embedding.step()


async def test_with_its_document_a_dead_letter_goes(world: World) -> None:
    world.embedder.fails_on = {"poison"}
    world.ingest("a poison")
    await world.embed()
    world.database.write_now(lambda connection: delete_document(connection, "p", "a"))
    assert world.dead() == []
    assert world.retry() == 0


async def test_another_model_tries_what_this_one_has_given_up(world: World) -> None:
    world.embedder.fails_on = {"poison"}
    world.ingest("a poison", "b fine")
    await world.embed()

    def requeue(model_hash: str) -> int:
        return world.database.write_now(
            lambda connection: ingest_queue.queue_chunks_without_vector(connection, model_hash)
        )

    assert requeue(world.embedder.model_hash) == 0
    assert len(world.dead()) == 1
    assert requeue("f" * 16) == 2
    assert world.dead() == []


async def test_isolating_gives_up_early_when_nothing_works() -> None:
    attempts = 0

    async def refuse(items: Sequence[int]) -> None:
        nonlocal attempts
        attempts += 1
        raise VectorStoreError("no")

    async def cannot_tell() -> None: ...

    with pytest.raises(VectorStoreError):
        await isolate(range(1000), refuse, cannot_tell)
    assert attempts <= REFUSALS_WITHOUT_SUCCESS


async def test_dead_letters_are_listed_and_retried_over_http(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path, model_dir=tmp_path / "absent", chroma_url="http://127.0.0.1:9", rate_limit_per_minute=0
    )
    app = create_app(settings)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://service") as client,
    ):
        documents = [{"id": f"d{number}", "text": "x"} for number in range(3)]
        await client.post("/api/v1/ingest", json={"project": "p", "documents": documents})
        database: Database = app.state.components.database
        items = database.write_now(lambda connection: ingest_queue.lease(connection, ["embed"], "w", 10))
        failures = dict.fromkeys(items, "bad")
        database.write_now(lambda connection: dead_letters.record_failures(connection, failures, "0" * 16, "w", 1))
        path = "/api/v1/projects/p/dead-letters"
        first = (await client.get(path, params={"limit": 2})).json()
        assert [one["document_id"] for one in first["dead_letters"]] == ["d0", "d1"]
        assert first["dead_letters"][0]["reason"] == "bad"
        rest = (await client.get(path, params={"cursor": first["next_cursor"]})).json()
        assert ([one["document_id"] for one in rest["dead_letters"]], rest["next_cursor"]) == (["d2"], None)
        assert "kb_dead_letters 3.0" in (await client.get("/metrics")).text
        retried = await client.post(f"{path}/retry", json={"chunk_ids": [1]})
        assert (retried.status_code, retried.json()) == (200, {"retried": 1})
        assert (await client.post(f"{path}/retry")).json() == {"retried": 2}
        assert (await client.get(path)).json()["dead_letters"] == []
        assert (await client.get("/api/v1/projects/none/dead-letters")).status_code == 404
