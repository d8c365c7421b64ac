"""The stored vectors of a project and model, as maintenance reads them: ids, batches, and all of them in order."""

import json
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.records import VECTOR_TYPE, Project, Vector

Ids64 = NDArray[np.int64]


def model_of_project(connection: Connection, project: Project) -> str | None:
    """The model of the project's newest vectors; None = it has none."""
    row = connection.row(
        "SELECT model_hash FROM vectors WHERE project_id = ? ORDER BY rowid DESC LIMIT 1", (project.id,)
    )
    return str(row[0]) if row else None


def vector_ids(connection: Connection, project: Project, model_hash: str) -> set[int]:
    """Chunk ids of every stored vector."""
    rows = connection.rows(
        "SELECT chunk_id FROM vectors WHERE project_id = ? AND model_hash = ?", (project.id, model_hash)
    )
    return {int(row[0]) for row in rows}


def ids_under_way(connection: Connection, project: Project) -> set[int]:
    """Chunk ids that the worker has yet to bring to Chroma, or to remove from it."""
    return {
        int(row[0]) for row in connection.rows("SELECT chunk_id FROM ingest_queue WHERE project_id = ?", (project.id,))
    }


def vectors_of(
    connection: Connection, project: Project, model_hash: str, chunk_ids: Sequence[int]
) -> tuple[list[int], Vector]:
    """(ids, matrix of one row an id) of those that are stored."""
    rows = list(
        connection.rows(
            "SELECT chunk_id, vector FROM vectors WHERE project_id = ? AND model_hash = ? "
            "AND chunk_id IN (SELECT value FROM json_each(?))",
            (project.id, model_hash, json.dumps(list(chunk_ids))),
        )
    )
    return [int(row[0]) for row in rows], _matrix([bytes(row[1]) for row in rows])


def still_stored(connection: Connection, project: Project, model_hash: str, chunk_ids: Sequence[int]) -> set[int]:
    """Those of the ids that have a vector now."""
    rows = connection.rows(
        "SELECT chunk_id FROM vectors WHERE project_id = ? AND model_hash = ? "
        "AND chunk_id IN (SELECT value FROM json_each(?))",
        (project.id, model_hash, json.dumps(list(chunk_ids))),
    )
    return {int(row[0]) for row in rows}


def nearest_exactly(
    connection: Connection, project: Project, model_hash: str, queries: Vector, limit: int, rows_at_once: int = 5000
) -> list[list[int]]:
    """Chunk ids of the `limit` nearest stored vectors of each row of `queries`, by a look at all of them."""
    best_ids: Ids64 = np.empty((len(queries), 0), dtype=np.int64)
    best = np.empty((len(queries), 0), dtype=np.float32)
    for ids, vectors in _batches(connection, project, model_hash, rows_at_once):
        best_ids = np.concatenate([best_ids, np.tile(ids, (len(queries), 1))], axis=1)
        best = np.concatenate([best, queries @ vectors.T], axis=1)
        order = np.argsort(-best, axis=1, kind="stable")[:, :limit]
        best_ids, best = np.take_along_axis(best_ids, order, axis=1), np.take_along_axis(best, order, axis=1)
    return best_ids.tolist()


def _batches(
    connection: Connection, project: Project, model_hash: str, rows_at_once: int
) -> Iterator[tuple[Ids64, Vector]]:
    rows = connection.rows(
        "SELECT chunk_id, vector FROM vectors WHERE project_id = ? AND model_hash = ?", (project.id, model_hash)
    )
    while batch := list(islice(rows, rows_at_once)):
        yield np.array([row[0] for row in batch], dtype=np.int64), _matrix([bytes(row[1]) for row in batch])


def _matrix(blobs: Sequence[bytes]) -> Vector:
    if not blobs:
        return np.empty((0, 0), dtype=np.float32)
    return np.frombuffer(b"".join(blobs), dtype=VECTOR_TYPE).reshape(len(blobs), -1).astype(np.float32)
