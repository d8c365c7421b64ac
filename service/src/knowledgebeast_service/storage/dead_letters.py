"""Chunks that could not be embedded or published for reasons of their own: counted, set aside, and taken up again."""

import json
import time
from collections.abc import Mapping, Sequence

from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.documents import require_project
from knowledgebeast_service.storage.records import DeadLetter, QueueItem

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0


def record_failures(
    connection: Connection, failures: Mapping[QueueItem, str], model_hash: str, owner: str, max_tries: int
) -> list[int]:
    """Count a try of each item and let it wait, longer each time; returns the chunks that were given up."""
    given_up: list[int] = []
    now = time.time()
    for item, reason in failures.items():
        row = connection.row(
            "UPDATE ingest_queue SET tries = tries + 1, lease_owner = NULL, "
            "lease_until = ? + min(?, ? * (1 << min(tries, 16))) "
            "WHERE chunk_id = ? AND op = ? AND lease_owner = ? RETURNING tries",
            (now, LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS, item.chunk_id, item.op, owner),
        )
        if row is None or int(row[0]) < max_tries:
            continue  # None: replaced or deleted meanwhile, or leased by another
        connection.execute(
            "INSERT OR REPLACE INTO dead_letters (chunk_id, project_id, project_uid, document_id, task_id, op, "
            "model_hash, reason, tries, failed_at) SELECT chunk_id, project_id, project_uid, document_id, task_id, op, "
            "?, ?, tries, ? FROM ingest_queue WHERE chunk_id = ?",
            (model_hash, reason, now, item.chunk_id),
        )
        connection.execute("DELETE FROM ingest_queue WHERE chunk_id = ?", (item.chunk_id,))
        given_up.append(item.chunk_id)
    return given_up


def list_dead_letters(connection: Connection, project_name: str, after: int, limit: int) -> list[DeadLetter]:
    """Those of a project by chunk id, after the one given (a cursor).

    Raises:
        NotFoundError: no such project.
    """
    project = require_project(connection, project_name)
    rows = connection.rows(
        "SELECT l.chunk_id, d.external_id, l.op, l.reason, l.tries, l.failed_at FROM dead_letters l "
        "JOIN documents d ON d.id = l.document_id WHERE l.project_id = ? AND l.chunk_id > ? "
        "ORDER BY l.chunk_id LIMIT ?",
        (project.id, after, limit),
    )
    return [DeadLetter(*row) for row in rows]


def count_dead_letters(connection: Connection) -> int:
    """Over all projects."""
    return connection.number("SELECT count(*) FROM dead_letters")


def retry_dead_letters(connection: Connection, project_name: str, chunk_ids: Sequence[int] | None) -> int:
    """Queue a project's dead letters again, all or those named, with all their tries; returns how many.

    Raises:
        NotFoundError: no such project.
    """
    project = require_project(connection, project_name)
    chosen = "project_id = ? AND (? IS NULL OR chunk_id IN (SELECT value FROM json_each(?)))"
    named = None if chunk_ids is None else json.dumps(list(chunk_ids))
    bindings = (project.id, named, named)
    # Only of chunks that exist: a release that knows no dead letters leaves them behind with documents it deletes.
    connection.execute(
        "INSERT INTO ingest_queue (chunk_id, project_id, project_uid, document_id, task_id, op, enqueued_at) "
        "SELECT chunk_id, project_id, project_uid, document_id, task_id, op, ? FROM dead_letters "
        f"WHERE {chosen} AND chunk_id IN (SELECT id FROM chunks) ON CONFLICT (chunk_id) DO NOTHING",
        (time.time(), *bindings),
    )
    queued = connection.changed_rows()
    connection.execute(f"DELETE FROM dead_letters WHERE {chosen}", bindings)
    return queued
