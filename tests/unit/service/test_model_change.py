"""When a project counts as made by another model, and when this one has caught up."""

import pytest

from knowledgebeast_service.storage import ingest_queue
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.model_change import ModelChange, model_changes
from vector_seed import random_vectors, seed_project

OLD, NEW = "a" * 16, "f" * 16


def changes(database: Database, model_hash: str) -> dict[int, ModelChange]:
    return database.read_now(lambda connection: model_changes(connection, model_hash))


def requeue(database: Database, model_hash: str) -> None:
    database.write_now(lambda connection: ingest_queue.queue_chunks_without_vector(connection, model_hash))


def publish_all(database: Database) -> None:
    items = database.write_now(lambda connection: ingest_queue.lease(connection, ["publish"], "w", 100))
    database.write_now(lambda connection: ingest_queue.complete(connection, items, "w"))


def embed(database: Database, model_hash: str, count: int) -> None:
    items = database.write_now(lambda connection: ingest_queue.lease(connection, ["embed"], "w", count))
    made = {item.chunk_id: vector for item, vector in zip(items, random_vectors(count), strict=True)}
    database.write_now(lambda connection: ingest_queue.store_vectors(connection, model_hash, items, made, "w"))


@pytest.mark.parametrize(("before", "after"), [(OLD, NEW), (NEW, OLD)])
def test_a_project_is_changing_from_the_first_look_until_its_last_chunk_is_in_the_new_collection(
    database: Database, before: str, after: str
) -> None:
    project = seed_project(database, "p", before, random_vectors(3))
    publish_all(database)
    assert changes(database, before) == {}
    assert changes(database, after) == {project.id: ModelChange(before, None)}, "nobody has queued it yet"
    requeue(database, after)
    embed(database, after, 2)
    publish_all(database)
    assert changes(database, after) == {project.id: ModelChange(before, 1)}
    embed(database, after, 1)
    assert changes(database, after) == {project.id: ModelChange(before, 1)}, "embedded, but not in the collection"
    publish_all(database)
    assert changes(database, after) == {}
    assert changes(database, before) == {}, "the old index is whole, too"


def test_a_project_without_vectors_is_not_changing(database: Database) -> None:
    """A new document waits in the queue as always: the project does without vectors of any model."""
    seed_project(database, "whole", NEW, random_vectors(2))
    assert changes(database, NEW) == {}
