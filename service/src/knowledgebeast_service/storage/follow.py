"""Reading the change log: what a replica needs to build its keyword index and to keep it in step."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.records import ID_TYPE, PostingColumns, Project

BATCH = 5000
LOAD_BATCH = 20_000  # chunks in memory as blobs while everything is read: about 20 MB

# (chunk id, document id, terms, term ids, counts): a row of `postings` with its document.
PostingRow = tuple[int, int, int, bytes, bytes]


def _no_ids() -> NDArray[np.int64]:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class ProjectChanges:
    """What happened to one project; `project` is None when it is gone. Removals come before additions."""

    project: Project | None
    added: PostingColumns
    removed: NDArray[np.int64] = field(default_factory=_no_ids)


@dataclass(frozen=True)
class Changes:
    """A piece of the log by project id; `seq` is the last number in it, `has_more` whether the log goes on."""

    seq: int
    projects: dict[int, ProjectChanges]
    has_more: bool


@dataclass(frozen=True)
class Totals:
    """Sums over all postings, to see whether an index holds exactly these chunks."""

    chunks: int
    chunk_ids: int
    lengths: int


def read_everything(connection: Connection) -> Iterator[dict[int, PostingColumns]]:
    """All postings by project id, in batches ascending by chunk id. To be read inside one transaction."""
    rows = connection.rows(
        "SELECT d.project_id, c.id, d.id, p.length, p.term_ids, p.counts FROM chunks c "
        "JOIN documents d ON d.id = c.document_id JOIN postings p ON p.chunk_id = c.id ORDER BY c.id"
    )
    batch: dict[int, list[PostingRow]] = defaultdict(list)
    for number, (project_id, *posting) in enumerate(rows, start=1):
        batch[project_id].append(tuple(posting))  # pyright: ignore[reportArgumentType]
        if number % LOAD_BATCH == 0:
            yield {project: _columns(found) for project, found in batch.items()}
            batch.clear()
    yield {project: _columns(found) for project, found in batch.items()}


def read_changes(connection: Connection, after_seq: int) -> Changes:
    """Up to BATCH entries of the log after `after_seq`.

    An addition is read with the postings of now: a chunk removed later has none and is skipped, and its removal is
    skipped by whoever does not know the chunk; one analysed anew is in the log as removed and added.
    """
    rows = list(
        connection.rows(
            "SELECT h.seq, h.project_id, h.op, h.chunk_id, h.document_id, p.length, p.term_ids, p.counts "
            "FROM changes h LEFT JOIN postings p ON p.chunk_id = h.chunk_id AND h.op = 'add' "
            "WHERE h.seq > ? ORDER BY h.seq LIMIT ?",
            (after_seq, BATCH),
        )
    )
    added: dict[int, dict[int, PostingRow]] = defaultdict(dict)
    removed: dict[int, list[int]] = defaultdict(list)
    touched: set[int] = set()
    for _seq, project_id, op, chunk_id, document_id, length, term_ids, counts in rows:
        touched.add(project_id)
        if op == "add" and length is not None:
            added[project_id][chunk_id] = (chunk_id, document_id, length, term_ids, counts)
        elif op == "remove":
            removed[project_id].append(chunk_id)
    known = {project.id: project for project in projects(connection, touched)}
    changes = {
        project_id: ProjectChanges(
            known.get(project_id),
            _columns(posting for _, posting in sorted(added[project_id].items())),
            np.array(removed[project_id], dtype=np.int64),
        )
        for project_id in touched
    }
    seq = int(rows[-1][0]) if rows else after_seq
    return Changes(seq, changes, has_more=len(rows) == BATCH)


def projects(connection: Connection, only: Iterable[int] | None = None) -> list[Project]:
    """All projects, or those of the ids that exist."""
    columns = "SELECT id, name, uid, seq, created_at FROM projects"
    if only is None:
        return [Project(*row) for row in connection.rows(columns)]
    ids = json.dumps(sorted(only))
    return [Project(*row) for row in connection.rows(f"{columns} WHERE id IN (SELECT value FROM json_each(?))", (ids,))]


def terms_after(connection: Connection, after_term: int) -> list[tuple[str, int]]:
    """(text, id) of the terms given since."""
    rows = connection.rows("SELECT text, id FROM terms WHERE id > ? ORDER BY id", (after_term,))
    return [(str(text), int(term_id)) for text, term_id in rows]


def totals(connection: Connection) -> Totals:
    """Of the postings in the database."""
    row = connection.row("SELECT count(*), total(chunk_id), total(length) FROM postings")
    return Totals(*(int(value) for value in row)) if row else Totals(0, 0, 0)


def _columns(rows: Iterable[PostingRow]) -> PostingColumns:
    taken = list(rows)
    return PostingColumns(
        chunk_ids=np.array([row[0] for row in taken], dtype=np.int64),
        document_ids=np.array([row[1] for row in taken], dtype=np.int64),
        lengths=np.array([row[2] for row in taken], dtype=np.int32),
        sizes=np.array([len(row[3]) // ID_TYPE.itemsize for row in taken], dtype=np.int64),
        term_ids=np.frombuffer(b"".join(row[3] for row in taken), dtype=ID_TYPE),
        counts=np.frombuffer(b"".join(row[4] for row in taken), dtype=ID_TYPE),
    )
