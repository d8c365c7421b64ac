"""What goes into and comes out of the database, as values."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int32]
Vector = NDArray[np.float32]

ID_TYPE = np.dtype("<i4")
VECTOR_TYPE = np.dtype("<f2")


def pack_ids(values: list[int]) -> bytes:
    """Little-endian int32."""
    return np.asarray(values, dtype=ID_TYPE).tobytes()


def unpack_ids(blob: bytes) -> Ids:
    return np.frombuffer(blob, dtype=ID_TYPE)


def pack_vector(vector: Vector) -> bytes:
    """Little-endian float16: half the size, and a rounding far below what ranking can see."""
    return vector.astype(VECTOR_TYPE).tobytes()


def unpack_vector(blob: bytes) -> Vector:
    return np.frombuffer(blob, dtype=VECTOR_TYPE).astype(np.float32)


@dataclass(frozen=True)
class PreparedChunk:
    """A piece of a document with its analysed terms (`terms` maps a term to its count)."""

    text: str
    terms: Mapping[str, int]


@dataclass(frozen=True)
class PreparedDocument:
    """A document ready to be stored; its chunks joined are its text."""

    external_id: str
    title: str
    metadata_json: str
    chunks: tuple[PreparedChunk, ...]


@dataclass(frozen=True)
class Accepted:
    """What an ingest transaction has committed; `seq` is the project's sequence after it."""

    project_id: int
    seq: int
    task_id: str


@dataclass(frozen=True)
class Project:
    id: int
    name: str
    uid: str
    seq: int
    created_at: float


@dataclass(frozen=True)
class ProjectCounts:
    """A project with what it holds."""

    project: Project
    documents: int
    chunks: int


@dataclass(frozen=True)
class StoredDocument:
    external_id: str
    title: str
    text: str
    metadata: Mapping[str, object]
    created_at: float
    is_indexed: bool


@dataclass(frozen=True)
class ChunkRow:
    """What a search result shows of a chunk."""

    chunk_id: int
    document_id: str
    title: str
    text: str
    metadata: Mapping[str, object]


@dataclass(frozen=True)
class ChunkPostings:
    """One chunk of the keyword index; `term_ids` ascending, `counts` beside them, `length` their sum."""

    chunk_id: int
    document_id: int
    length: int
    term_ids: Ids
    counts: Ids


@dataclass(frozen=True)
class RemovedChunk:
    chunk_id: int
    term_ids: Ids


@dataclass(frozen=True)
class QueueItem:
    """A leased row of the ingest queue."""

    chunk_id: int
    project_id: int
    project_uid: str
    op: str


@dataclass(frozen=True)
class TaskProgress:
    """State of an ingest task; counts are documents."""

    id: str
    total: int
    pending: int
    errors: tuple[Mapping[str, str], ...]
