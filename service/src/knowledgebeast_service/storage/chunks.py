"""The rows of a document's chunks: text, postings, change log, queue. Statements for whole sets, because each
statement gives up the interpreter's lock, and getting it back from a busy thread takes milliseconds.
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import cast

from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.records import ANALYSER_VERSION, PreparedChunk, Project, pack_ids

CHUNKS_AT_ONCE = 256


class TermIds:
    """Numbers of terms, for one transaction; unknown terms are given one."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._ids: dict[str, int] = {}

    def of(self, terms: set[str]) -> dict[str, int]:
        """Numbers of at least `terms`."""
        asked = sorted(terms - self._ids.keys())
        found = self._find(asked)
        missing = [term for term in asked if term not in found]
        if missing:
            self._connection.execute(
                "INSERT INTO terms (text) SELECT value FROM json_each(?) ORDER BY key", (json.dumps(missing),)
            )
            found |= self._find(missing)
        self._ids |= found
        return self._ids

    def _find(self, terms: Sequence[str]) -> dict[str, int]:
        row = self._connection.row(
            "SELECT json_group_object(t.text, t.id) FROM json_each(?) j JOIN terms t ON t.text = j.value",
            (json.dumps(terms),),
        )
        return cast("dict[str, int]", json.loads(row[0])) if row else {}


def insert_chunks(
    connection: Connection,
    project: Project,
    seq: int,
    document_id: int,
    chunks: Iterable[PreparedChunk],
    terms: TermIds,
    task_id: str,
) -> None:
    """Store a document's chunks and queue them for embedding."""
    first_id = 1 + connection.number("SELECT seq FROM sqlite_sequence WHERE name = 'chunks'")
    for start, some in _batches(chunks):
        ids = terms.of({term for chunk in some for term in chunk.terms})
        numbered = list(enumerate(some, start))
        connection.execute_many(
            "INSERT INTO chunks (id, document_id, position, text) VALUES (?, ?, ?, ?)",
            [(first_id + position, document_id, position, chunk.text) for position, chunk in numbered],
        )
        connection.execute_many(
            "INSERT INTO postings (chunk_id, length, term_ids, counts, analyser) VALUES (?, ?, ?, ?, ?)",
            [(first_id + position, *pack_postings(chunk.terms, ids), ANALYSER_VERSION) for position, chunk in numbered],
        )
    connection.execute(
        "INSERT INTO changes (project_id, project_seq, op, chunk_id, document_id) "
        "SELECT ?, ?, 'add', id, document_id FROM chunks WHERE document_id = ? ORDER BY position",
        (project.id, seq, document_id),
    )
    connection.execute(
        "INSERT INTO ingest_queue (chunk_id, project_id, project_uid, document_id, task_id, op, enqueued_at) "
        "SELECT id, ?, ?, document_id, ?, 'embed', ? FROM chunks WHERE document_id = ? ORDER BY position",
        (project.id, project.uid, task_id, time.time(), document_id),
    )


def remove_chunks(connection: Connection, project: Project, seq: int, document_id: int) -> None:
    """Remove a document's chunks and queue their vectors for removal."""
    connection.execute(
        "INSERT INTO changes (project_id, project_seq, op, chunk_id, document_id, term_ids) "
        "SELECT ?, ?, 'remove', c.id, c.document_id, p.term_ids FROM chunks c JOIN postings p ON p.chunk_id = c.id "
        "WHERE c.document_id = ? ORDER BY c.position",
        (project.id, seq, document_id),
    )
    # A lease stays as it is: a worker may be sending this very vector to Chroma, and the removal must come after.
    connection.execute(
        "INSERT INTO ingest_queue (chunk_id, project_id, project_uid, document_id, op, enqueued_at) "
        "SELECT id, ?, ?, document_id, 'delete', ? FROM chunks WHERE document_id = ? ORDER BY position "
        "ON CONFLICT (chunk_id) DO UPDATE SET op = 'delete', task_id = NULL, tries = 0",
        (project.id, project.uid, time.time(), document_id),
    )
    for table in ("vectors", "postings", "dead_letters"):
        connection.execute(
            f"DELETE FROM {table} WHERE chunk_id IN (SELECT id FROM chunks WHERE document_id = ?)", (document_id,)
        )
    connection.execute("DELETE FROM chunks WHERE document_id = ?", (document_id,))


def _batches(chunks: Iterable[PreparedChunk]) -> Iterator[tuple[int, list[PreparedChunk]]]:
    """(position of the first, chunks)."""
    coming, start = iter(chunks), 0
    while some := list(islice(coming, CHUNKS_AT_ONCE)):
        yield start, some
        start += len(some)


def pack_postings(terms: Mapping[str, int], ids: Mapping[str, int]) -> tuple[int, bytes, bytes]:
    """(length, term ids ascending, counts beside them)."""
    postings = sorted((ids[term], count) for term, count in terms.items())
    counts = [count for _, count in postings]
    return sum(counts), pack_ids([term for term, _ in postings]), pack_ids(counts)
