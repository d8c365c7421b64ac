"""The vectors of merged documents, from the damaged file: what was embedded before need not be embedded again, which
nobody can while the model is missing.

A vector counts only with the checksum that was stored beside it, of the model, the title, the text and the vector: so a
page that holds what it held yesterday, or half of it, brings none. A document gets all of its vectors or none. What is
left waits to be embedded, as do vectors that a release without checksums has stored.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from knowledgebeast_service.maintenance.restore.readable import attempt, number, opened, rows_between
from knowledgebeast_service.storage.connection import Connection, Row
from knowledgebeast_service.storage.ingest_queue import keep_vector, newest_model_hash
from knowledgebeast_service.storage.records import unpack_vector, vector_checksum

WAITING = "FROM ingest_queue q JOIN chunks c ON c.id = q.chunk_id WHERE q.op = 'embed'"
# In this order: from the queue SQLite would go through all that waits, once for each document.
WAITING_OF_DOCUMENT = (
    "SELECT c.id, d.project_id, d.title, c.text FROM documents d CROSS JOIN chunks c ON c.document_id = d.id "
    "CROSS JOIN ingest_queue q ON q.chunk_id = c.id WHERE d.id = ? AND q.op = 'embed'"
)


@dataclass(frozen=True)
class _Vector:
    packed: bytes
    checksum: bytes


def carry_vectors(connection: Connection, damaged: Path, last_chunk: int) -> int:
    """Give chunks that wait to be embedded the vectors that the damaged file has of the same text; returns how many.

    `last_chunk` is the highest number of a chunk that the backup knows. Called inside a transaction of the caller's.
    """
    first_waiting = connection.row("SELECT min(chunk_id) FROM ingest_queue WHERE op = 'embed'")
    if first_waiting is None or first_waiting[0] is None or not damaged.exists():
        return 0
    with opened(damaged) as source:
        if source is None or not _has_checksums(source):
            return 0
        model_hash = newest_model_hash(connection) or attempt(lambda: newest_model_hash(source))
        if model_hash is None:
            return 0
        # Numbers are never given twice: older chunks are in the backup, with their vectors or waiting for them.
        return _Carrier(connection, source, model_hash).carry(min(first_waiting[0], last_chunk + 1))


class _Carrier:
    """Of one model: a change of the model since the backup has everything embedded anyway."""

    def __init__(self, connection: Connection, source: Connection, model_hash: str) -> None:
        self._connection = connection
        self._source = source
        self._model_hash = model_hash
        sql = "SELECT length(vector) FROM vectors WHERE model_hash = ? LIMIT 1"
        self._size = number(connection, sql, (model_hash,))
        self._all: dict[int, _Vector] | None = None
        self._candidates: dict[bytes, list[int]] = defaultdict(list)

    def carry(self, first: int) -> int:
        self._look_for_candidates(first)
        carried = 0
        waiting = self._connection.rows(f"SELECT DISTINCT c.document_id {WAITING}")
        for document_id in [int(row[0]) for row in waiting]:
            chunks = list(self._connection.rows(WAITING_OF_DOCUMENT, (document_id,)))
            found = [self._vector(title, text) for _, _, title, text in chunks]
            vectors = [vector for vector in found if vector is not None]
            if len(vectors) < len(chunks):
                continue
            for (chunk_id, project_id, _, _), vector in zip(chunks, vectors, strict=True):
                keep_vector(self._connection, chunk_id, project_id, self._model_hash, vector.packed, vector.checksum)
            carried += len(chunks)
        return carried

    def _look_for_candidates(self, first: int) -> None:
        """Chunks of the damaged file with a title and a text that wait. Only hints, never a proof."""
        wanted = {_digest(row[0]) for row in self._connection.rows(f"SELECT c.text {WAITING}")}
        last = number(self._source, "SELECT seq FROM sqlite_sequence WHERE name = 'chunks'")
        if last is None:
            last = number(self._source, "SELECT max(id) FROM chunks") or 0
        for row in rows_between(self._source, "chunks", "id", "document_id, text", first, last):
            chunk_id, document_id, text = row
            if isinstance(text, str) and _digest(text) in wanted and (title := self._title(document_id)) is not None:
                self._candidates[_digest(title, text)].append(chunk_id)

    def _title(self, document_id: int) -> str | None:
        row = attempt(lambda: self._source.row("SELECT title FROM documents WHERE id = ?", (document_id,)))
        return row[0] if row is not None and isinstance(row[0], str) else None

    def _vector(self, title: str, text: str) -> _Vector | None:
        """One that is proved; a candidate without is forgotten, for thousands of documents may hold the same text."""
        candidates = self._candidates[_digest(title, text)]
        while candidates:
            for vector in self._stored(candidates[-1]):
                expected = vector_checksum(self._model_hash, title, text, vector.packed)
                if vector.checksum == expected and self._is_sound(vector.packed):
                    return vector
            candidates.pop()
        return None

    def _stored(self, chunk_id: int) -> Iterator[_Vector]:
        """By the index; where that cannot be read, from a look at the whole table, once."""
        sql = "SELECT chunk_id, vector, checksum FROM vectors WHERE chunk_id = ? AND model_hash = ?"
        rows = attempt(lambda: list(self._source.rows(sql, (chunk_id, self._model_hash))))
        if rows is not None:
            yield from (vector for row in rows if (vector := _vector(row)) is not None)
        elif (vector := self._by_scan().get(chunk_id)) is not None:
            yield vector

    def _by_scan(self) -> dict[int, _Vector]:
        if self._all is None:
            last = number(self._source, "SELECT max(rowid) FROM vectors NOT INDEXED") or 0
            columns = "chunk_id, vector, checksum, model_hash"
            rows = rows_between(self._source, "vectors", "rowid", columns, 1, last)
            mine = (row[1:4] for row in rows if row[4] == self._model_hash)
            self._all = {row[0]: vector for row in mine if (vector := _vector(row)) is not None}
        return self._all

    def _is_sound(self, packed: bytes) -> bool:
        """As long as the others of the model, and of numbers."""
        self._size = self._size or len(packed)
        return len(packed) == self._size and bool(np.isfinite(unpack_vector(packed)).all())


def _has_checksums(source: Connection) -> bool:
    columns = attempt(lambda: list(source.rows("SELECT name FROM pragma_table_info('vectors')"))) or []
    return ("checksum",) in [tuple(row) for row in columns]


def _vector(row: Row) -> _Vector | None:
    """None for a row without a checksum, or that nobody can have written."""
    _, packed, checksum = row
    return _Vector(packed, checksum) if isinstance(packed, bytes) and isinstance(checksum, bytes) else None


def _digest(*texts: str) -> bytes:
    return hashlib.blake2b("\0".join(texts).encode(), digest_size=16).digest()
