"""Vector search without an index: every vector of a few documents or of a small project, from the database."""

import json
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from knowledgebeast_service.search.vector_store import NO_NEIGHBOURS, Matrix, Neighbours
from knowledgebeast_service.storage.connection import Connection, Row
from knowledgebeast_service.storage.records import VECTOR_TYPE

ROWS_AT_ONCE = 4096  # 3 MiB of vectors; a filter may leave any number of documents


def nearest_stored(
    connection: Connection,
    project_id: int,
    model_hash: str,
    vector: Matrix,
    limit: int,
    documents: Sequence[int] | None = None,
) -> Neighbours:
    """The `limit` nearest vectors of these documents, or of all; nearest first. `vector` has shape (1, dimension)."""
    if documents is None:
        return _nearest(_rows_of_all(connection, project_id, model_hash), vector, limit)
    return _nearest(_rows_of(connection, project_id, model_hash, documents), vector, limit)


def _rows_of_all(connection: Connection, project_id: int, model_hash: str) -> Iterator[Row]:
    return connection.rows(
        "SELECT chunk_id, vector FROM vectors WHERE project_id = ? AND model_hash = ?", (project_id, model_hash)
    )


def _rows_of(connection: Connection, project_id: int, model_hash: str, documents: Sequence[int]) -> Iterator[Row]:
    # CROSS JOIN keeps SQLite from scanning all vectors of the project to find those of a few documents.
    return connection.rows(
        "SELECT v.chunk_id, v.vector FROM json_each(?) wanted CROSS JOIN chunks c ON c.document_id = wanted.value "
        "CROSS JOIN vectors v ON v.chunk_id = c.id AND v.project_id = ? AND v.model_hash = ?",
        (json.dumps(list(documents)), project_id, model_hash),
    )


def _nearest(rows: Iterator[Row], vector: Matrix, limit: int) -> Neighbours:
    chunk_ids: list[int] = []
    parts: list[Matrix] = []
    for batch in _batches(rows):
        chunk_ids += [int(row[0]) for row in batch]
        stored = np.frombuffer(b"".join(row[1] for row in batch), dtype=VECTOR_TYPE).reshape(len(batch), -1)
        parts.append(stored.astype(np.float32) @ vector[0])
    if not parts:
        return NO_NEIGHBOURS
    distances = 1 - np.concatenate(parts)
    found = Neighbours(np.array(chunk_ids, dtype=np.int64), distances.astype(np.float64))
    return found.take(np.lexsort((found.chunk_ids, distances))[:limit])


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while batch := list(islice(rows, ROWS_AT_ONCE)):
        yield batch
