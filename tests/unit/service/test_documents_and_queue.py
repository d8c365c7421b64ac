"""Storage of documents, the queue behind them, and what a replica sees of it: on a real database, without a model."""

import asyncio
import json

import numpy as np
import pytest

from knowledgebeast_service.errors import NotFoundError, NotReadyError
from knowledgebeast_service.search.replica import KeywordReplica
from knowledgebeast_service.storage import ingest_queue, queries
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.documents import delete_document, delete_project, upsert_documents
from knowledgebeast_service.storage.records import (
    Accepted,
    PreparedChunk,
    PreparedDocument,
    QueueItem,
    Vector,
    pack_vector,
    unpack_vector,
)

MODEL = "0123456789abcdef"


def document(external_id: str, *chunks: str, metadata: dict[str, object] | None = None) -> PreparedDocument:
    prepared = tuple(PreparedChunk(text, {word: text.split().count(word) for word in text.split()}) for text in chunks)
    return PreparedDocument(external_id, f"title of {external_id}", json.dumps(metadata or {}), prepared)


def ingest(database: Database, *documents: PreparedDocument, project: str = "p") -> Accepted:
    return database.write_now(lambda connection: upsert_documents(connection, project, documents))


def vector(seed: int) -> Vector:
    values = np.random.default_rng(seed).normal(size=8).astype(np.float32)
    return unpack_vector(pack_vector((values / np.linalg.norm(values)).astype(np.float32)))


def embed_all(database: Database, owner: str = "a") -> list[QueueItem]:
    items = database.write_now(lambda connection: ingest_queue.lease(connection, ["embed"], owner, 100))
    vectors = {item.chunk_id: vector(item.chunk_id) for item in items}
    database.write_now(lambda connection: ingest_queue.store_vectors(connection, MODEL, items, vectors, owner))
    return items


def publish_all(database: Database, owner: str = "a") -> list[QueueItem]:
    ops = ["publish", "refill", "delete"]
    items = database.write_now(lambda connection: ingest_queue.lease(connection, ops, owner, 100))
    database.write_now(lambda connection: ingest_queue.complete(connection, items, owner))
    return items


def queued(database: Database) -> dict[int, str]:
    return database.read_now(
        lambda connection: {row[0]: row[1] for row in connection.rows("SELECT chunk_id, op FROM ingest_queue")}
    )


async def searched(replica: KeywordReplica, word: str, project: str = "p") -> list[int]:
    await replica.catch_up()
    view = replica.snapshot.by_name[project]
    term = replica.vocabulary.get(word)
    return [] if term is None else [hit.chunk_id for hit in view.index.search([term], 100)]


async def test_a_replica_follows_adds_updates_and_deletes(database: Database) -> None:
    replica = KeywordReplica(database)
    ingest(database, document("a", "red fox", "blue fox"), document("b", "red hen"))
    assert await searched(replica, "red") == [1, 3]
    ingest(database, document("a", "green fox"))
    assert await searched(replica, "red") == [3]
    assert await searched(replica, "green") == [4]
    database.write_now(lambda connection: delete_document(connection, "p", "b"))
    assert await searched(replica, "red") == []
    replica.close()


async def test_a_replica_that_starts_late_equals_one_that_followed(database: Database) -> None:
    follower = KeywordReplica(database)
    await follower.catch_up()
    for number in range(60):
        ingest(database, document(f"d{number % 20}", f"word{number % 7} common", "common tail"))
        if number % 3 == 0:
            await follower.catch_up()
    late = KeywordReplica(database)
    assert await searched(late, "common") == await searched(follower, "common")
    views = [replica.snapshot.by_name["p"] for replica in (late, follower)]
    assert views[0].index.mean_idf == pytest.approx(views[1].index.mean_idf)
    assert views[0].index.size == views[1].index.size == 40
    assert late.snapshot.seq == follower.snapshot.seq
    late.close()
    follower.close()


async def test_projects_have_sequences_of_their_own(database: Database) -> None:
    first = ingest(database, document("a", "x"), project="one")
    ingest(database, document("a", "x"), project="two")
    assert ingest(database, document("b", "x"), project="one").seq == first.seq + 1


async def test_a_deleted_project_is_gone_and_its_name_starts_anew(database: Database) -> None:
    replica = KeywordReplica(database)
    ingest(database, document("a", "red"))
    embed_all(database)
    await replica.catch_up()
    old = replica.snapshot.by_name["p"].project
    database.write_now(lambda connection: delete_project(connection, "p"))
    await replica.catch_up()
    assert "p" not in replica.snapshot.by_name
    assert queued(database) == {}
    assert database.read_now(ingest_queue.retired_collections) == [(old.uid, [MODEL])]
    ingest(database, document("b", "blue"))
    assert await searched(replica, "red") == []
    assert replica.snapshot.by_name["p"].project.uid != old.uid
    replica.close()


async def test_a_replica_that_still_has_a_deleted_project_is_behind_its_successor(database: Database) -> None:
    """The name is the same, and so would the numbers be: it would answer min_seq from the project that is gone."""
    stale = KeywordReplica(database)
    for number in range(5):
        ingest(database, document(f"d{number}", "red"))
    await stale.catch_up()
    deleted_seq = database.write_now(lambda connection: delete_project(connection, "p"))
    seen = stale.snapshot.by_name["p"].project
    assert seen.seq < deleted_seq
    assert ingest(database, document("b", "blue")).seq > deleted_seq
    with pytest.raises(NotReadyError):
        await stale.wait_for("p", deleted_seq, 0)
    waiting = asyncio.create_task(stale.wait_for("p", deleted_seq, 10))
    await asyncio.sleep(0)
    await stale.catch_up()
    await waiting
    assert stale.snapshot.by_name["p"].project.uid != seen.uid
    stale.close()


async def test_waiting_for_a_project_ends_when_it_is_deleted(database: Database) -> None:
    replica = KeywordReplica(database)
    seq = ingest(database, document("a", "red")).seq
    await replica.catch_up()
    waiting = asyncio.create_task(replica.wait_for("p", seq + 2, 10))
    await asyncio.sleep(0)
    database.write_now(lambda connection: delete_project(connection, "p"))
    await replica.catch_up()
    await asyncio.wait_for(waiting, 1)
    assert "p" not in replica.snapshot.by_name
    replica.close()


def test_the_text_comes_back_whole(database: Database) -> None:
    ingest(database, document("a", "One. ", "Two. ", "Three."))
    found = database.read_now(lambda connection: queries.get_document(connection, "p", "a"))
    assert found.text == "One. Two. Three."
    assert not found.is_indexed


def test_a_lease_keeps_others_out_and_ends_by_itself(database: Database) -> None:
    ingest(database, document("a", "x"))

    def lease(owner: str, seconds: float = 60) -> list[QueueItem]:
        return database.write_now(lambda connection: ingest_queue.lease(connection, ["embed"], owner, 10, seconds))

    assert len(lease("dead", seconds=-1)) == 1  # a worker that died long ago
    assert len(lease("a")) == 1
    assert lease("b") == []
    assert not database.read_now(lambda connection: ingest_queue.has_work(connection, ["embed"]))


def test_done_means_forgotten_and_the_sequence_moves_on(database: Database) -> None:
    accepted = ingest(database, document("a", "x"))
    embed_all(database)
    assert queued(database) == {1: "publish"}
    publish_all(database)
    assert queued(database) == {}
    progress = database.read_now(lambda connection: queries.get_task(connection, accepted.task_id))
    assert (progress.total, progress.pending) == (1, 0)
    assert ingest(database, document("b", "x")).seq == accepted.seq + 2  # vectors that arrived changed the answers


def test_a_vector_sent_by_a_worker_that_slept_past_its_lease_is_removed_again(database: Database) -> None:
    """SIGSTOP, or a stalled disk: another worker has published and then removed the chunk meanwhile."""
    ingest(database, document("a", "old"))
    embed_all(database)
    sleeping = database.write_now(lambda connection: ingest_queue.lease(connection, ["publish"], "a", 10, -1))
    publish_all(database, owner="b")
    database.write_now(lambda connection: delete_document(connection, "p", "a"))
    publish_all(database, owner="b")
    assert queued(database) == {}
    database.write_now(lambda connection: ingest_queue.complete(connection, sleeping, "a"))
    assert queued(database) == {1: "delete"}
    publish_all(database, owner="b")
    assert queued(database) == {}


def test_a_chunk_replaced_while_it_is_sent_is_removed_from_chroma_afterwards(database: Database) -> None:
    """The removal waits for the lease: it must reach Chroma after the vector that is on its way."""
    ingest(database, document("a", "old"))
    embed_all(database)
    sending = database.write_now(lambda connection: ingest_queue.lease(connection, ["publish"], "a", 10))
    ingest(database, document("a", "new"))
    assert queued(database) == {1: "delete", 2: "embed"}
    assert not database.read_now(lambda connection: ingest_queue.has_work(connection, ["delete"]))
    database.write_now(lambda connection: ingest_queue.complete(connection, sending, "a"))
    assert queued(database) == {1: "delete", 2: "embed"}
    assert [item.chunk_id for item in publish_all(database)] == [1]


def test_a_vector_for_a_chunk_deleted_meanwhile_is_dropped(database: Database) -> None:
    ingest(database, document("a", "old"))
    items = database.write_now(lambda connection: ingest_queue.lease(connection, ["embed"], "a", 10))
    database.write_now(lambda connection: delete_document(connection, "p", "a"))
    database.write_now(lambda connection: ingest_queue.store_vectors(connection, MODEL, items, {1: vector(1)}, "a"))
    assert database.read_now(lambda connection: connection.number("SELECT count(*) FROM vectors")) == 0
    assert queued(database) == {1: "delete"}


def test_a_refill_queues_every_stored_vector_once(database: Database) -> None:
    accepted = ingest(database, document("a", "x", "y"), document("b", "z"))
    embed_all(database)
    publish_all(database)

    def refill() -> int:
        return database.write_now(
            lambda connection: ingest_queue.refill_project(connection, accepted.project_id, MODEL)
        )

    assert (refill(), refill()) == (3, 0)
    assert queued(database) == {1: "refill", 2: "refill", 3: "refill"}


def test_canaries_are_chunks_that_chroma_should_hold(database: Database) -> None:
    """Not those still on their way; but those waiting for a refill, or a half-filled collection would pass."""
    accepted = ingest(database, document("a", "x"))
    embed_all(database)

    def sample() -> set[int]:
        return set(
            database.read_now(
                lambda connection: ingest_queue.sample_published(connection, accepted.project_id, MODEL, 20)
            )
        )

    assert sample() == set()
    publish_all(database)
    assert sample() == {1}
    database.write_now(lambda connection: ingest_queue.refill_project(connection, accepted.project_id, MODEL))
    assert sample() == {1}


def test_a_new_model_queues_everything_again(database: Database) -> None:
    ingest(database, document("a", "x"), document("b", "y"))
    embed_all(database)
    publish_all(database)

    def requeue(model_hash: str) -> int:
        return database.write_now(lambda connection: ingest_queue.queue_chunks_without_vector(connection, model_hash))

    assert requeue(MODEL) == 0
    assert requeue("f" * 16) == 2
    assert queued(database) == {1: "embed", 2: "embed"}


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"lang": "en"}, {"a", "b"}),
        ({"lang": "en", "year": 2020}, {"a"}),
        ({"year": 2020.0}, set[str]()),
        ({"flag": True}, {"b"}),
        ({"flag": 1}, {"c"}),
        ({"note": None}, {"c"}),
        ({"lang": "EN"}, set[str]()),
        ({"absent": "x"}, set[str]()),
        ({"lang' OR 1=1 --": "x"}, set[str]()),
    ],
)
def test_a_filter_matches_exact_values_only(database: Database, wanted: dict[str, object], found: set[str]) -> None:
    accepted = ingest(
        database,
        document("a", "x", metadata={"lang": "en", "year": 2020}),
        document("b", "x", metadata={"lang": "en", "flag": True}),
        document("c", "x", metadata={"lang": "de", "flag": 1, "note": None}),
    )
    ids = database.read_now(lambda connection: queries.documents_matching(connection, accepted.project_id, wanted))
    names = database.read_now(
        lambda connection: {row[0]: row[1] for row in connection.rows("SELECT id, external_id FROM documents")}
    )
    assert {names[one] for one in ids} == found


def test_what_does_not_exist_is_named(database: Database) -> None:
    with pytest.raises(NotFoundError, match="POST /api/v1/projects"):
        database.write_now(lambda connection: delete_document(connection, "nowhere", "a"))
    ingest(database, document("a", "x"))
    with pytest.raises(NotFoundError, match="no document 'b'"):
        database.read_now(lambda connection: queries.get_document(connection, "p", "b"))


def test_a_document_of_another_project_is_not_found(database: Database) -> None:
    ingest(database, document("a", "of one"), project="one")
    ingest(database, document("b", "of two"), project="two")
    with pytest.raises(NotFoundError, match="no document 'b' in project 'one'"):
        database.read_now(lambda connection: queries.get_document(connection, "one", "b"))
    ingest(database, document("a", "also a"), project="two")
    for project, text in (("one", "of one"), ("two", "also a")):
        found = database.read_now(lambda connection, project=project: queries.get_document(connection, project, "a"))
        assert found.text == text
