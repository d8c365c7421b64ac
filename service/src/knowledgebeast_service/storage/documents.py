"""Documents and projects: one transaction per accepted request, with its postings, its changes and its queue entries.

Every function here takes a connection inside a transaction; `Database.write` and `Database.read` provide it.
"""

import json
import secrets
import time
from collections.abc import Mapping, Sequence

from knowledgebeast_service.errors import NotFoundError
from knowledgebeast_service.storage.chunks import TermIds, insert_chunks, remove_chunks
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.records import (
    Accepted,
    PreparedDocument,
    Project,
    StoredContent,
    UnchangedDocument,
)

TASK_RETENTION_SECONDS = 7 * 24 * 3600


class ContentChangedError(Exception):
    """A document that was taken for unchanged is so no more: look again. Never leaves the ingestion."""


def ensure_project(connection: Connection, name: str) -> tuple[Project, bool]:
    """The project and whether it was made now.

    Its sequence begins above every one given so far: a replica that still serves a deleted project of the same name
    must not take itself for up to date with the new one.
    """
    existing = find_project(connection, name)
    if existing is not None:
        return existing, False
    connection.execute(
        "INSERT INTO projects (name, uid, seq, created_at) "
        "VALUES (?, ?, coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'changes'), 0), ?)",
        (name, secrets.token_hex(8), time.time()),
    )
    project_id = connection.last_id()
    record_change(connection, project_id, next_seq(connection, project_id), "touch")
    return require_project(connection, name), True


def find_project(connection: Connection, name: str) -> Project | None:
    row = connection.row("SELECT id, name, uid, seq, created_at FROM projects WHERE name = ?", (name,))
    return Project(*row) if row else None


def require_project(connection: Connection, name: str) -> Project:
    """The project.

    Raises:
        NotFoundError: there is none; the sentence says how to make one.
    """
    project = find_project(connection, name)
    if project is None:
        raise NotFoundError(unknown_project(name))
    return project


def unknown_project(name: str) -> str:
    return (
        f'There is no project \'{name}\'. Make it with POST /api/v1/projects {{"name": "{name}"}}, '
        "or by ingesting a document into it with POST /api/v1/ingest."
    )


def next_seq(connection: Connection, project_id: int) -> int:
    """Advance the project's own sequence: once for each transaction that touches it."""
    row = connection.row("UPDATE projects SET seq = seq + 1 WHERE id = ? RETURNING seq", (project_id,))
    if row is None:
        raise NotFoundError("The project was deleted meanwhile.")
    return int(row[0])


def record_change(
    connection: Connection,
    project_id: int,
    project_seq: int,
    op: str,
    chunk_id: int | None = None,
    document_id: int | None = None,
    term_ids: bytes | None = None,
) -> None:
    """Append to the log that replicas follow."""
    connection.execute(
        "INSERT INTO changes (project_id, project_seq, op, chunk_id, document_id, term_ids) VALUES (?, ?, ?, ?, ?, ?)",
        (project_id, project_seq, op, chunk_id, document_id, term_ids),
    )


def find_unchanged(connection: Connection, project_name: str, wanted: Mapping[str, str]) -> dict[str, StoredContent]:
    """Of the documents wanted (id to content hash), those that are stored with that very content, by id.

    A hash counts only while the document is as this release wrote it: a release that knows no hashes leaves it behind
    when it replaces the text, but it changes `created_at`.
    """
    rows = connection.rows(
        "SELECT d.external_id, d.id, d.metadata, d.content_hash FROM json_each(?) wanted JOIN projects p ON p.name = ? "
        "JOIN documents d ON d.project_id = p.id AND d.external_id = wanted.key "
        "WHERE d.content_hash = wanted.value AND d.hashed_at = d.created_at",
        (json.dumps(dict(wanted)), project_name),
    )
    return {str(row[0]): StoredContent(*row[1:]) for row in rows}


def upsert_documents(
    connection: Connection,
    project_name: str,
    documents: Sequence[PreparedDocument],
    errors: Sequence[dict[str, str]] = (),
    unchanged: Sequence[UnchangedDocument] = (),
) -> Accepted:
    """Store documents, each replacing the one of the same id, and queue their chunks for embedding.

    The project's sequence moves on only if something is stored: cached answers stay valid for a request that only
    repeats what is there.

    Raises:
        ContentChangedError: an `unchanged` document has been replaced or deleted since it was looked at.
    """
    if not all(_is_unchanged(connection, one) for one in unchanged):
        raise ContentChangedError
    project, _ = ensure_project(connection, project_name)
    renewed = [one for one in unchanged if one.metadata_json is not None]
    seq = next_seq(connection, project.id) if documents or renewed else project.seq
    task_id = secrets.token_hex(8)
    now = time.time()
    terms = TermIds(connection)
    for document in documents:
        document_id = _put_document(connection, project, seq, document, now)
        insert_chunks(connection, project, seq, document_id, document.chunks, terms, task_id)
    for one in renewed:
        connection.execute("UPDATE documents SET metadata = ? WHERE id = ?", (one.metadata_json, one.document_id))
    if renewed:
        record_change(connection, project.id, seq, "touch")
    connection.execute("DELETE FROM tasks WHERE created_at < ?", (now - TASK_RETENTION_SECONDS,))
    total = len(documents) + len(errors) + len(unchanged)
    known = json.dumps([one.document_id for one in unchanged])
    connection.execute(
        "INSERT INTO tasks (id, project_id, total, errors, created_at, unchanged) VALUES (?, ?, ?, ?, ?, ?)",
        (task_id, project.id, total, json.dumps(list(errors)), now, known),
    )
    return Accepted(project_id=project.id, seq=seq, task_id=task_id)


def delete_document(connection: Connection, project_name: str, external_id: str) -> int:
    """Remove a document; returns the project's sequence after it.

    Raises:
        NotFoundError: no such project or document.
    """
    project = require_project(connection, project_name)
    row = connection.row("SELECT id FROM documents WHERE project_id = ? AND external_id = ?", (project.id, external_id))
    if row is None:
        raise NotFoundError(f"There is no document '{external_id}' in project '{project_name}'.")
    seq = next_seq(connection, project.id)
    remove_chunks(connection, project, seq, int(row[0]))
    connection.execute("DELETE FROM documents WHERE id = ?", (row[0],))
    return seq


def delete_project(connection: Connection, name: str) -> int:
    """Remove a project with all it holds; its collections in Chroma are dropped later by the worker.

    Returns the project's last sequence: a replica that has not reached it still has the project.

    Raises:
        NotFoundError: no such project.
    """
    project = require_project(connection, name)
    seq = next_seq(connection, project.id)
    record_change(connection, project.id, seq, "drop")
    hashes = [
        str(row[0])
        for row in connection.rows("SELECT DISTINCT model_hash FROM vectors WHERE project_id = ?", (project.id,))
    ]
    connection.execute("INSERT INTO retired_projects VALUES (?, ?, ?)", (project.uid, json.dumps(hashes), time.time()))
    chunks = "SELECT c.id FROM chunks c JOIN documents d ON d.id = c.document_id WHERE d.project_id = ?"
    for statement in (
        "DELETE FROM ingest_queue WHERE project_id = ?",
        "DELETE FROM vectors WHERE project_id = ?",
        "DELETE FROM dead_letters WHERE project_id = ?",
        f"DELETE FROM postings WHERE chunk_id IN ({chunks})",
        f"DELETE FROM chunks WHERE id IN ({chunks})",
        "DELETE FROM documents WHERE project_id = ?",
        "DELETE FROM tasks WHERE project_id = ?",
        "DELETE FROM projects WHERE id = ?",
    ):
        connection.execute(statement, (project.id,))
    return seq


def _is_unchanged(connection: Connection, one: UnchangedDocument) -> bool:
    found = connection.row(
        "SELECT 1 FROM documents WHERE id = ? AND content_hash = ? AND hashed_at = created_at",
        (one.document_id, one.content_hash),
    )
    return found is not None


def _put_document(connection: Connection, project: Project, seq: int, document: PreparedDocument, now: float) -> int:
    """The document's row, without chunks; returns its internal id."""
    row = connection.row(
        "SELECT id FROM documents WHERE project_id = ? AND external_id = ?", (project.id, document.external_id)
    )
    content = (document.title, document.metadata_json, now, document.content_hash, now)
    if row is None:
        connection.execute(
            "INSERT INTO documents (title, metadata, created_at, content_hash, hashed_at, project_id, external_id) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (*content, project.id, document.external_id),
        )
        return connection.last_id()
    document_id = int(row[0])
    remove_chunks(connection, project, seq, document_id)
    connection.execute(
        "UPDATE documents SET title = ?, metadata = ?, created_at = ?, content_hash = ?, hashed_at = ? WHERE id = ?",
        (*content, document_id),
    )
    return document_id
