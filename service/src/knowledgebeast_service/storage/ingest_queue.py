"""The durable ingest queue: leases, vectors, completion. Safe with several workers, and with one that dies."""

import json
import random
import time
from collections.abc import Mapping, Sequence

from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.documents import next_seq, record_change
from knowledgebeast_service.storage.records import QueueItem, Vector, pack_vector, unpack_vector, vector_checksum

LEASE_SECONDS = 60.0  # the default of INGEST_LEASE_SECONDS
# A worker that was sending to a collection when its project was deleted may make it again: drop it until then.
RETIREMENT_SECONDS = 2 * LEASE_SECONDS


def has_work(connection: Connection, ops: Sequence[str]) -> bool:
    """Whether `lease` would find something; spares an idle worker the write lock."""
    row = connection.row(
        "SELECT 1 FROM ingest_queue WHERE op IN (SELECT value FROM json_each(?)) AND lease_until < ? LIMIT 1",
        (json.dumps(list(ops)), time.time()),
    )
    return row is not None


def lease(
    connection: Connection, ops: Sequence[str], owner: str, limit: int, seconds: float = LEASE_SECONDS
) -> list[QueueItem]:
    """Take up to `limit` rows, oldest first, for so many seconds."""
    now = time.time()
    rows = list(
        connection.rows(
            "UPDATE ingest_queue SET lease_owner = ?, lease_until = ? WHERE chunk_id IN ("
            "  SELECT chunk_id FROM ingest_queue WHERE op IN (SELECT value FROM json_each(?)) AND lease_until < ?"
            "  ORDER BY chunk_id LIMIT ?) RETURNING chunk_id, project_id, project_uid, op",
            (owner, now + seconds, json.dumps(list(ops)), now, limit),
        )
    )
    return [QueueItem(*row) for row in rows]


def release(connection: Connection, items: Sequence[QueueItem], owner: str, pause_seconds: float = 0) -> None:
    """Give leases back after a failure; nobody takes the rows again before the pause has ended."""
    until = time.time() + pause_seconds if pause_seconds else 0
    connection.execute(
        "UPDATE ingest_queue SET lease_owner = NULL, lease_until = ? "
        "WHERE chunk_id IN (SELECT value FROM json_each(?)) AND lease_owner = ?",
        (until, _ids(items), owner),
    )


def release_all(connection: Connection, owner: str) -> None:
    """Give back everything that a worker holds, when it leaves in good order."""
    connection.execute(
        "UPDATE ingest_queue SET lease_owner = NULL, lease_until = 0 WHERE lease_owner = ?",
        (owner,),
    )


def texts_to_embed(connection: Connection, items: Sequence[QueueItem]) -> dict[int, tuple[str, str]]:
    """(title, text) by chunk id, of the chunks that still exist."""
    rows = connection.rows(
        "SELECT c.id, d.title, c.text FROM chunks c JOIN documents d ON d.id = c.document_id "
        "WHERE c.id IN (SELECT value FROM json_each(?))",
        (_ids(items),),
    )
    return {int(chunk_id): (str(title), str(text)) for chunk_id, title, text in rows}


def store_vectors(
    connection: Connection, model_hash: str, items: Sequence[QueueItem], vectors: Mapping[int, Vector], owner: str
) -> None:
    """Keep vectors of the chunks that still wait for them, and pass those on to be published."""
    texts = texts_to_embed(connection, items)
    for item in items:
        if item.chunk_id in vectors and _has_op(connection, item.chunk_id, "embed"):
            packed = pack_vector(vectors[item.chunk_id])
            checksum = vector_checksum(model_hash, *texts[item.chunk_id], packed)
            keep_vector(connection, item.chunk_id, item.project_id, model_hash, packed, checksum)
    release(connection, items, owner)


def keep_vector(
    connection: Connection, chunk_id: int, project_id: int, model_hash: str, packed: bytes, checksum: bytes
) -> None:
    """Keep the vector of a chunk that waits for it, and pass it on to be published."""
    connection.execute(
        "INSERT OR REPLACE INTO vectors (chunk_id, model_hash, project_id, vector, checksum) VALUES (?, ?, ?, ?, ?)",
        (chunk_id, model_hash, project_id, packed, checksum),
    )
    connection.execute("UPDATE ingest_queue SET op = 'publish', tries = 0 WHERE chunk_id = ?", (chunk_id,))


def vectors_to_publish(connection: Connection, model_hash: str, items: Sequence[QueueItem]) -> dict[int, Vector]:
    """Vectors by chunk id."""
    rows = connection.rows(
        "SELECT chunk_id, vector FROM vectors WHERE model_hash = ? AND chunk_id IN (SELECT value FROM json_each(?))",
        (model_hash, _ids(items)),
    )
    return {int(chunk_id): unpack_vector(vector) for chunk_id, vector in rows}


def complete(connection: Connection, items: Sequence[QueueItem], owner: str) -> None:
    """Forget rows that are done, unless they have become something else since they were leased."""
    connection.execute_many(
        "DELETE FROM ingest_queue WHERE chunk_id = ? AND op = ?", [(item.chunk_id, item.op) for item in items]
    )
    release(connection, items, owner)
    _remove_what_came_late(connection, [item for item in items if item.op != "delete"])
    known = {int(row[0]) for row in connection.rows("SELECT id FROM projects")}
    for project_id in {item.project_id for item in items if item.op != "delete"} & known:
        # Answers differ from now on, so keys of cached ones must, too.
        record_change(connection, project_id, next_seq(connection, project_id), "touch")


def _remove_what_came_late(connection: Connection, sent: Sequence[QueueItem]) -> None:
    """Queue the removal of vectors whose chunk is gone.

    A worker that slept past its lease sends them after another one has removed them from Chroma, where nobody would
    look for them again. The collections of a deleted project are dropped as a whole.
    """
    connection.execute_many(
        "INSERT INTO ingest_queue (chunk_id, project_id, project_uid, document_id, op, enqueued_at) "
        "SELECT ?1, ?2, ?3, 0, 'delete', ?4 WHERE NOT EXISTS (SELECT 1 FROM chunks WHERE id = ?1) "
        "AND EXISTS (SELECT 1 FROM projects WHERE id = ?2) ON CONFLICT (chunk_id) DO NOTHING",
        [(item.chunk_id, item.project_id, item.project_uid, time.time()) for item in sent],
    )


def refill_project(connection: Connection, project_id: int, model_hash: str) -> int:
    """Queue every stored vector of a project for Chroma again; returns how many."""
    connection.execute(
        "INSERT INTO ingest_queue (chunk_id, project_id, project_uid, document_id, op, enqueued_at) "
        "SELECT v.chunk_id, v.project_id, p.uid, c.document_id, 'refill', ? FROM vectors v "
        "JOIN projects p ON p.id = v.project_id JOIN chunks c ON c.id = v.chunk_id "
        "WHERE v.project_id = ? AND v.model_hash = ? AND NOT EXISTS "
        "(SELECT 1 FROM dead_letters l WHERE l.chunk_id = v.chunk_id) ON CONFLICT (chunk_id) DO NOTHING",
        (time.time(), project_id, model_hash),
    )
    return connection.changed_rows()


def queue_chunks_without_vector(connection: Connection, model_hash: str) -> int:
    """Queue what this model has not embedded: after a change of model, or a file from elsewhere.

    What another model had failed at is tried with this one; what this one has failed at waits to be retried by hand.
    """
    connection.execute("DELETE FROM dead_letters WHERE model_hash <> ?", (model_hash,))
    connection.execute(
        "INSERT INTO ingest_queue (chunk_id, project_id, project_uid, document_id, op, enqueued_at) "
        "SELECT c.id, p.id, p.uid, d.id, 'embed', ? FROM chunks c JOIN documents d ON d.id = c.document_id "
        "JOIN projects p ON p.id = d.project_id WHERE NOT EXISTS (SELECT 1 FROM vectors v "
        "WHERE v.project_id = p.id AND v.model_hash = ? AND v.chunk_id = c.id) "
        "AND NOT EXISTS (SELECT 1 FROM dead_letters l WHERE l.chunk_id = c.id) "
        "ON CONFLICT (chunk_id) DO UPDATE SET op = 'embed' WHERE op IN ('publish', 'refill')",
        (time.time(), model_hash),
    )
    return connection.changed_rows()


DRAWS = 2  # for each chunk of a sample


def sample_published(connection: Connection, project_id: int, model_hash: str, limit: int) -> dict[int, bytes]:
    """Up to `limit` random chunks that Chroma was told to hold, with their stored vectors.

    Chunks waiting for a refill count: until they are back, the collection is not whole.
    """
    bounds = connection.row(
        "SELECT min(chunk_id), max(chunk_id) FROM vectors WHERE project_id = ? AND model_hash = ?",
        (project_id, model_hash),
    )
    if bounds is None or bounds[0] is None:
        return {}
    found: dict[int, bytes] = {}
    for _ in range(DRAWS * limit):
        if len(found) == limit:
            break
        # A random start and the next row: as cheap for a million rows as for ten. Some are drawn twice.
        row = connection.row(
            "SELECT v.chunk_id, v.vector FROM vectors v WHERE v.project_id = ? AND v.model_hash = ? "
            "AND v.chunk_id >= ? AND NOT EXISTS "
            "(SELECT 1 FROM ingest_queue q WHERE q.chunk_id = v.chunk_id AND q.op <> 'refill') "
            "AND NOT EXISTS (SELECT 1 FROM dead_letters l WHERE l.chunk_id = v.chunk_id) "
            "ORDER BY v.chunk_id LIMIT 1",
            (project_id, model_hash, random.randint(bounds[0], bounds[1])),
        )
        if row is not None:
            found[int(row[0])] = bytes(row[1])
    return found


def stored_vectors(
    connection: Connection, project_id: int, model_hash: str, chunk_ids: Sequence[int]
) -> dict[int, bytes]:
    """Vectors as stored, by chunk id; those deleted meanwhile are missing."""
    rows = connection.rows(
        "SELECT chunk_id, vector FROM vectors WHERE project_id = ? AND model_hash = ? "
        "AND chunk_id IN (SELECT value FROM json_each(?))",
        (project_id, model_hash, json.dumps(list(chunk_ids))),
    )
    return {int(chunk_id): bytes(vector) for chunk_id, vector in rows}


def retired_collections(connection: Connection) -> list[tuple[str, list[str]]]:
    """(project uid, model hashes) of deleted projects whose collections may still exist."""
    rows = connection.rows("SELECT uid, model_hashes FROM retired_projects")
    return [(str(uid), json.loads(hashes)) for uid, hashes in rows]


def forget_retired(connection: Connection, uids: Sequence[str]) -> None:
    """Forget projects whose collections were dropped, once no worker can be writing to them any more."""
    ended = [(uid, time.time() - RETIREMENT_SECONDS) for uid in uids]
    connection.execute_many(
        "DELETE FROM collection_generations WHERE project_uid IN "
        "(SELECT uid FROM retired_projects WHERE uid = ? AND retired_at < ?)",
        ended,
    )
    connection.execute_many("DELETE FROM retired_projects WHERE uid = ? AND retired_at < ?", ended)


def _has_op(connection: Connection, chunk_id: int, op: str) -> bool:
    row = connection.row("SELECT 1 FROM ingest_queue WHERE chunk_id = ? AND op = ?", (chunk_id, op))
    return row is not None


def _ids(items: Sequence[QueueItem]) -> str:
    return json.dumps([item.chunk_id for item in items])


def back_to_embedding(connection: Connection, items: Sequence[QueueItem]) -> None:
    """Send rows whose vector is of another model back to the start."""
    connection.execute_many(
        "UPDATE ingest_queue SET op = 'embed' WHERE chunk_id = ? AND op IN ('publish', 'refill')",
        [(item.chunk_id,) for item in items],
    )


def newest_model_hash(connection: Connection) -> str | None:
    """The model of the vectors stored last; what can be served and refilled while the model itself is missing."""
    row = connection.row("SELECT model_hash FROM vectors ORDER BY rowid DESC LIMIT 1")
    return None if row is None else str(row[0])
