"""What the API reads: projects, documents, result rows, tasks, counts."""

import json
from collections.abc import Mapping, Sequence
from typing import cast

from knowledgebeast_service.errors import NotFoundError
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.documents import require_project
from knowledgebeast_service.storage.records import ChunkRow, Project, ProjectCounts, StoredDocument, TaskProgress

PENDING = "('embed', 'publish', 'refill')"


def list_projects(connection: Connection, after: str, limit: int) -> list[ProjectCounts]:
    """Projects by name, after the one named (a cursor)."""
    rows = list(
        connection.rows(
            "SELECT id, name, uid, seq, created_at FROM projects WHERE name > ? ORDER BY name LIMIT ?", (after, limit)
        )
    )
    return [count_project(connection, Project(*row)) for row in rows]


def count_project(connection: Connection, project: Project) -> ProjectCounts:
    row = connection.row(
        "SELECT count(DISTINCT d.id), count(c.id) FROM documents d LEFT JOIN chunks c ON c.document_id = d.id "
        "WHERE d.project_id = ?",
        (project.id,),
    )
    documents, chunks = row or (0, 0)
    return ProjectCounts(project, int(documents), int(chunks))


def list_documents(
    connection: Connection, project_name: str, after: str, limit: int
) -> list[tuple[str, str, Mapping[str, object]]]:
    """(id, title, metadata) by id, after the one named (a cursor)."""
    project = require_project(connection, project_name)
    rows = connection.rows(
        "SELECT external_id, title, metadata FROM documents WHERE project_id = ? AND external_id > ? "
        "ORDER BY external_id LIMIT ?",
        (project.id, after, limit),
    )
    return [(str(external_id), str(title), json.loads(metadata)) for external_id, title, metadata in rows]


def get_document(connection: Connection, project_name: str, external_id: str) -> StoredDocument:
    """A document with its text.

    Raises:
        NotFoundError: no such project or document.
    """
    project = require_project(connection, project_name)
    row = connection.row(
        "SELECT id, title, metadata, created_at FROM documents WHERE project_id = ? AND external_id = ?",
        (project.id, external_id),
    )
    if row is None:
        raise NotFoundError(f"There is no document '{external_id}' in project '{project_name}'.")
    document_id, title, metadata, created_at = row
    chunks = connection.rows("SELECT text FROM chunks WHERE document_id = ? ORDER BY position", (document_id,))
    text = "".join(str(chunk[0]) for chunk in chunks)
    pending = connection.row(
        f"SELECT 1 FROM ingest_queue WHERE document_id = ? AND op IN {PENDING} "
        "UNION ALL SELECT 1 FROM dead_letters WHERE document_id = ? LIMIT 1",
        (document_id, document_id),
    )
    return StoredDocument(external_id, title, text, json.loads(metadata), created_at, is_indexed=pending is None)


def chunk_rows(connection: Connection, chunk_ids: Sequence[int]) -> dict[int, ChunkRow]:
    """Rows by chunk id; those deleted meanwhile are missing."""
    rows = connection.rows(
        "SELECT c.id, d.external_id, d.title, c.text, d.metadata FROM chunks c "
        "JOIN documents d ON d.id = c.document_id WHERE c.id IN (SELECT value FROM json_each(?))",
        (json.dumps(list(chunk_ids)),),
    )
    return {
        int(chunk_id): ChunkRow(chunk_id, external_id, title, text, metadata)
        for chunk_id, external_id, title, text, metadata in rows
    }


def documents_matching(connection: Connection, project_id: int, wanted: Mapping[str, object]) -> list[int]:
    """Internal ids of the documents whose metadata has every wanted key with exactly the wanted value."""
    conditions = "".join(
        " AND EXISTS (SELECT 1 FROM json_each(d.metadata) m WHERE m.key = ? AND m.type = ? AND m.atom IS ?)"
        for _ in wanted
    )
    bindings = [binding for key, value in wanted.items() for binding in (key, *_json_atom(value))]
    rows = connection.rows(f"SELECT d.id FROM documents d WHERE d.project_id = ?{conditions}", (project_id, *bindings))
    return [int(row[0]) for row in rows]


def _json_atom(value: object) -> tuple[str, str | int | float | None]:
    """The pair (type, atom) of SQLite's json_each for a scalar; 1 and 1.0 and true stay apart."""
    match value:
        case None:
            return "null", None
        case bool():
            return ("true", 1) if value else ("false", 0)
        case int():
            return "integer", value
        case float():
            return "real", value
        case _:
            return "text", cast("str", value)


def get_task(connection: Connection, task_id: str) -> TaskProgress:
    """Progress of an ingest request.

    Raises:
        NotFoundError: unknown, or older than the retention of tasks.
    """
    row = connection.row("SELECT total, errors, unchanged FROM tasks WHERE id = ?", (task_id,))
    if row is None:
        raise NotFoundError(unknown_task(task_id))
    total, errors, unchanged = row
    pending = connection.number(
        f"SELECT count(DISTINCT document_id) FROM ingest_queue WHERE op IN {PENDING} "
        "AND (task_id = ? OR document_id IN (SELECT value FROM json_each(?)))",
        (task_id, unchanged),
    )
    given_up = connection.rows(
        "SELECT d.external_id, min(l.reason) FROM dead_letters l JOIN documents d ON d.id = l.document_id "
        "WHERE l.task_id = ? GROUP BY d.id",
        (task_id,),
    )
    failed = [{"id": str(external_id), "error": str(reason)} for external_id, reason in given_up]
    return TaskProgress(task_id, int(total), pending, (*cast("list[dict[str, str]]", json.loads(errors)), *failed))


def unknown_task(task_id: str) -> str:
    return f"There is no task '{task_id}'. Tasks are kept for 7 days."


def queue_length(connection: Connection, project_id: int | None = None) -> int:
    """Documents not yet searchable by vector, of one project or of all."""
    row = connection.row(
        f"SELECT count(DISTINCT document_id) FROM ingest_queue WHERE op IN {PENDING} "
        "AND project_id = ifnull(?, project_id)",
        (project_id,),
    )
    return int(row[0]) if row else 0


def vectors_by_project(connection: Connection, model_hash: str, limit: int) -> list[tuple[str, int]]:
    """(project, vectors) of the projects with most vectors."""
    rows = connection.rows(
        "SELECT p.name, count(v.chunk_id) AS n FROM projects p "
        "LEFT JOIN vectors v ON v.project_id = p.id AND v.model_hash = ? GROUP BY p.id ORDER BY n DESC LIMIT ?",
        (model_hash, limit),
    )
    return [(str(name), int(count)) for name, count in rows]


def change_head(connection: Connection) -> int:
    """The last sequence number of the change log."""
    row = connection.row("SELECT max(seq) FROM changes")
    return int(row[0] or 0) if row else 0
