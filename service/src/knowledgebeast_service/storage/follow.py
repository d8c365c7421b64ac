"""Reading the change log: what a replica needs to build its keyword index and to keep it in step."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.queries import change_head
from knowledgebeast_service.storage.records import ChunkPostings, Project, RemovedChunk, unpack_ids

BATCH = 5000


@dataclass(frozen=True)
class ProjectChanges:
    """What happened to one project; `project` is None when it is gone."""

    project: Project | None
    added: Sequence[ChunkPostings] = ()
    removed: Sequence[RemovedChunk] = ()


@dataclass(frozen=True)
class Changes:
    """A piece of the log by project id; `seq` is the last number in it, `has_more` whether the log goes on."""

    seq: int
    projects: dict[int, ProjectChanges]
    terms: Sequence[tuple[str, int]]
    has_more: bool


def read_everything(connection: Connection) -> Changes:
    """The whole state, as if everything had just been added."""
    added: dict[int, list[ChunkPostings]] = defaultdict(list)
    rows = connection.rows(
        "SELECT d.project_id, c.id, d.id, p.length, p.term_ids, p.counts FROM chunks c "
        "JOIN documents d ON d.id = c.document_id JOIN postings p ON p.chunk_id = c.id ORDER BY c.id"
    )
    for project_id, chunk_id, document_id, length, term_ids, counts in rows:
        added[project_id].append(ChunkPostings(chunk_id, document_id, length, unpack_ids(term_ids), unpack_ids(counts)))
    projects = {
        project.id: ProjectChanges(project, added.get(project.id, ())) for project in _projects(connection, None)
    }
    return Changes(change_head(connection), projects, _terms_after(connection, 0), has_more=False)


def read_changes(connection: Connection, after_seq: int, after_term: int) -> Changes:
    """Up to BATCH entries of the log after `after_seq`.

    An added chunk that was removed later has lost its postings; it is skipped here, and its removal is skipped by
    whoever does not know the chunk.
    """
    rows = list(
        connection.rows(
            "SELECT h.seq, h.project_id, h.op, h.chunk_id, h.document_id, h.term_ids, p.length, p.term_ids, p.counts "
            "FROM changes h LEFT JOIN postings p ON p.chunk_id = h.chunk_id AND h.op = 'add' "
            "WHERE h.seq > ? ORDER BY h.seq LIMIT ?",
            (after_seq, BATCH),
        )
    )
    added: dict[int, list[ChunkPostings]] = defaultdict(list)
    removed: dict[int, list[RemovedChunk]] = defaultdict(list)
    touched: set[int] = set()
    for _seq, project_id, op, chunk_id, document_id, removed_terms, length, term_ids, counts in rows:
        touched.add(project_id)
        if op == "add" and length is not None:
            added[project_id].append(
                ChunkPostings(chunk_id, document_id, length, unpack_ids(term_ids), unpack_ids(counts))
            )
        elif op == "remove":
            removed[project_id].append(RemovedChunk(chunk_id, unpack_ids(removed_terms)))
    known = {project.id: project for project in _projects(connection, touched)}
    projects = {
        project_id: ProjectChanges(known.get(project_id), added.get(project_id, ()), removed.get(project_id, ()))
        for project_id in touched
    }
    seq = int(rows[-1][0]) if rows else after_seq
    return Changes(seq, projects, _terms_after(connection, after_term), has_more=len(rows) == BATCH)


def _projects(connection: Connection, only: set[int] | None) -> list[Project]:
    rows = list(connection.rows("SELECT id, name, uid, seq, created_at FROM projects"))
    return [Project(*row) for row in rows if only is None or row[0] in only]


def _terms_after(connection: Connection, after_term: int) -> list[tuple[str, int]]:
    rows = connection.rows("SELECT text, id FROM terms WHERE id > ? ORDER BY id", (after_term,))
    return [(str(text), int(term_id)) for text, term_id in rows]
