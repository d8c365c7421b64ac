"""What goes into and comes out of the database, as values."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int32]
Vector = NDArray[np.float32]

ID_TYPE = np.dtype("<i4")
VECTOR_TYPE = np.dtype("<f2")
# Of the rules in search.analyser, stored beside what they made of a text. Raise it when they give other terms: then
# every replica that starts has the stored postings made anew (ingest.reanalyse).
ANALYSER_VERSION = 1


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


def vector_checksum(model_hash: str, title: str, text: str, packed: bytes) -> bytes:
    """Says that this model has made this vector of this title and text: SQLite has no checksums of its own."""
    parts = (model_hash.encode(), title.encode(), text.encode(), packed)
    return hashlib.blake2b(b"\0".join(parts), digest_size=16).digest()


@dataclass(frozen=True)
class PreparedChunk:
    """A piece of a document with its analysed terms (`terms` maps a term to its count)."""

    text: str
    terms: Mapping[str, int]


@dataclass(frozen=True)
class PreparedDocument:
    """A document ready to be stored; its chunks joined are its text. An empty content hash equals no other."""

    external_id: str
    title: str
    metadata_json: str
    chunks: Iterable[PreparedChunk]
    content_hash: str = ""


@dataclass(frozen=True)
class StoredContent:
    """A stored document whose title and text are those of a document sent again."""

    document_id: int
    metadata_json: str
    content_hash: str


@dataclass(frozen=True)
class UnchangedDocument:
    """A document sent again with the content that is stored; `metadata_json` is set when that is all that differs."""

    document_id: int
    content_hash: str
    metadata_json: str | None = None


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
    metadata_json: str


@dataclass(frozen=True)
class ChunkPostings:
    """One chunk of the keyword index; `term_ids` ascending, `counts` beside them, `length` their sum."""

    chunk_id: int
    document_id: int
    length: int
    term_ids: Ids
    counts: Ids


@dataclass(frozen=True)
class PostingColumns:
    """Many chunks of the keyword index, ascending by id, as columns; `sizes` = terms (without repeats) of each."""

    chunk_ids: NDArray[np.int64]
    document_ids: NDArray[np.int64]
    lengths: Ids
    sizes: NDArray[np.int64]
    term_ids: Ids
    counts: Ids


def posting_columns(chunks: Sequence[ChunkPostings]) -> PostingColumns:
    """The same as columns."""
    nothing = np.empty(0, dtype=np.int32)
    return PostingColumns(
        chunk_ids=np.array([chunk.chunk_id for chunk in chunks], dtype=np.int64),
        document_ids=np.array([chunk.document_id for chunk in chunks], dtype=np.int64),
        lengths=np.array([chunk.length for chunk in chunks], dtype=np.int32),
        sizes=np.array([len(chunk.term_ids) for chunk in chunks], dtype=np.int64),
        term_ids=np.concatenate([nothing, *(chunk.term_ids for chunk in chunks)]),
        counts=np.concatenate([nothing, *(chunk.counts for chunk in chunks)]),
    )


@dataclass(frozen=True)
class QueueItem:
    """A leased row of the ingest queue."""

    chunk_id: int
    project_id: int
    project_uid: str
    op: str


@dataclass(frozen=True)
class DeadLetter:
    """A chunk that was given up; `op` is the stage that it failed in."""

    chunk_id: int
    document_id: str
    op: str
    reason: str
    tries: int
    failed_at: float


@dataclass(frozen=True)
class TaskProgress:
    """State of an ingest task; counts are documents."""

    id: str
    total: int
    pending: int
    errors: tuple[Mapping[str, str], ...]
