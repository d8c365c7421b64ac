"""Documents and projects: one transaction per accepted request, with its postings, its changes and its queue entries.

Every function here takes a connection inside a transaction; `Database.write` and `Database.read` provide it.
"""

import json
import secrets
import time
from collections.abc import Iterable, Sequence

from knowledgebeast_service.errors import NotFoundError
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.records import Accepted, PreparedDocument, Project, pack_ids

TASK_RETENTION_SECONDS = 7 * 24 * 3600


def ensure_project(connection: Connection, name: str) -> tuple[Project, bool]:
    """The project and whether it was made now."""
    existing = find_project(connection, name)
    if existing is not None:
        return existing, False
    connection.execute(
        "INSERT INTO projects (name, uid, created_at) VALUES (?, ?, ?)", (name, secrets.token_hex(8), time.time())
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


def upsert_documents(
    connection: Connection,
    project_name: str,
    documents: Sequence[PreparedDocument],
    errors: Sequence[dict[str, str]] = (),
) -> Accepted:
    """Store documents, each replacing the one of the same id, and queue their chunks for embedding."""
    project, _ = ensure_project(connection, project_name)
    seq = next_seq(connection, project.id)
    task_id = secrets.token_hex(8)
    now = time.time()
    for document in documents:
        _upsert(connection, project, seq, document, task_id, now)
    connection.execute("DELETE FROM tasks WHERE created_at < ?", (now - TASK_RETENTION_SECONDS,))
    connection.execute(
        "INSERT INTO tasks (id, project_id, total, errors, created_at) VALUES (?, ?, ?, ?, ?)",
        (task_id, project.id, len(documents) + len(errors), json.dumps(list(errors)), now),
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
    _remove_chunks(connection, project, seq, int(row[0]))
    connection.execute("DELETE FROM documents WHERE id = ?", (row[0],))
    return seq


def delete_project(connection: Connection, name: str) -> None:
    """Remove a project with all it holds; its collections in Chroma are dropped later by the worker.

    Raises:
        NotFoundError: no such project.
    """
    project = require_project(connection, name)
    record_change(connection, project.id, next_seq(connection, project.id), "drop")
    hashes = [
        str(row[0])
        for row in connection.rows("SELECT DISTINCT model_hash FROM vectors WHERE project_id = ?", (project.id,))
    ]
    connection.execute("INSERT INTO retired_projects VALUES (?, ?, ?)", (project.uid, json.dumps(hashes), time.time()))
    chunks = "SELECT c.id FROM chunks c JOIN documents d ON d.id = c.document_id WHERE d.project_id = ?"
    for statement in (
        "DELETE FROM ingest_queue WHERE project_id = ?",
        "DELETE FROM vectors WHERE project_id = ?",
        f"DELETE FROM postings WHERE chunk_id IN ({chunks})",
        f"DELETE FROM chunks WHERE id IN ({chunks})",
        "DELETE FROM documents WHERE project_id = ?",
        "DELETE FROM tasks WHERE project_id = ?",
        "DELETE FROM projects WHERE id = ?",
    ):
        connection.execute(statement, (project.id,))


def _upsert(
    connection: Connection, project: Project, seq: int, document: PreparedDocument, task_id: str, now: float
) -> None:
    row = connection.row(
        "SELECT id FROM documents WHERE project_id = ? AND external_id = ?", (project.id, document.external_id)
    )
    if row is None:
        connection.execute(
            "INSERT INTO documents (project_id, external_id, title, metadata, created_at) VALUES (?, ?, ?, ?, ?)",
            (project.id, document.external_id, document.title, document.metadata_json, now),
        )
        document_id = connection.last_id()
    else:
        document_id = int(row[0])
        _remove_chunks(connection, project, seq, document_id)
        connection.execute(
            "UPDATE documents SET title = ?, metadata = ?, created_at = ? WHERE id = ?",
            (document.title, document.metadata_json, now, document_id),
        )
    terms = _term_ids(connection, {term for chunk in document.chunks for term in chunk.terms})
    for position, chunk in enumerate(document.chunks):
        connection.execute(
            "INSERT INTO chunks (document_id, position, text) VALUES (?, ?, ?)", (document_id, position, chunk.text)
        )
        chunk_id = connection.last_id()
        postings = sorted((terms[term], count) for term, count in chunk.terms.items())
        connection.execute(
            "INSERT INTO postings VALUES (?, ?, ?, ?)",
            (
                chunk_id,
                sum(count for _, count in postings),
                pack_ids([term for term, _ in postings]),
                pack_ids([count for _, count in postings]),
            ),
        )
        record_change(connection, project.id, seq, "add", chunk_id, document_id)
        connection.execute(
            "INSERT INTO ingest_queue (chunk_id, project_id, project_uid, document_id, task_id, op, enqueued_at) "
            "VALUES (?, ?, ?, ?, ?, 'embed', ?)",
            (chunk_id, project.id, project.uid, document_id, task_id, now),
        )


def _term_ids(connection: Connection, terms: Iterable[str]) -> dict[str, int]:
    ids: dict[str, int] = {}
    for term in sorted(terms):
        row = connection.row("SELECT id FROM terms WHERE text = ?", (term,))
        if row is None:
            connection.execute("INSERT INTO terms (text) VALUES (?)", (term,))
            ids[term] = connection.last_id()
        else:
            ids[term] = int(row[0])
    return ids


def _remove_chunks(connection: Connection, project: Project, seq: int, document_id: int) -> None:
    rows = list(
        connection.rows(
            "SELECT c.id, p.term_ids FROM chunks c JOIN postings p ON p.chunk_id = c.id WHERE c.document_id = ?",
            (document_id,),
        )
    )
    for chunk_id, term_ids in rows:
        record_change(connection, project.id, seq, "remove", chunk_id, document_id, term_ids)
        # A lease stays as it is: a worker may be sending this very vector to Chroma, and the removal must come after.
        connection.execute(
            "INSERT INTO ingest_queue (chunk_id, project_id, project_uid, document_id, op, enqueued_at) "
            "VALUES (?, ?, ?, ?, 'delete', ?) ON CONFLICT (chunk_id) DO UPDATE SET op = 'delete', task_id = NULL",
            (chunk_id, project.id, project.uid, document_id, time.time()),
        )
        for table in ("vectors", "postings"):
            connection.execute(f"DELETE FROM {table} WHERE chunk_id = ?", (chunk_id,))
        connection.execute("DELETE FROM chunks WHERE id = ?", (chunk_id,))
