"""Logical changes, applied to a restored file by the code that stores documents: new chunks under new numbers, their
postings, their places in the queue.

Changes come in the order of their numbers and may come twice. A document is never replaced by an older one.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from knowledgebeast_service.ingest.prepare import searchable_text
from knowledgebeast_service.search.analyser import analyse
from knowledgebeast_service.shipping.segments import LogicalChange, ShippedDocument
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.documents import delete_document, delete_project, find_project, upsert_documents
from knowledgebeast_service.storage.records import PreparedChunk, PreparedDocument, Project


@dataclass
class Merged:
    """What was applied; `changes` counts those that were looked at, superseded ones with them."""

    changes: int = 0
    documents: int = 0
    deleted: int = 0
    last_seq: int = 0
    last_at: float = 0.0
    issued: dict[str, int] = field(default_factory=dict[str, int])


def last_numbers(changes: Iterable[LogicalChange]) -> dict[tuple[str, str | None], int]:
    """The number of the last change of each document, the only one to be applied; of a dropped project under None."""
    return {(change.project_uid, change.document): change.seq for change in changes if change.op != "create"}


def issued_by(changes: Iterable[LogicalChange]) -> dict[str, int]:
    """The highest number known to have been given, by sequence."""
    highest: dict[str, int] = {}
    for change in changes:
        raise_to(highest, change.issued)
    return highest


def raise_to(highest: dict[str, int], others: Mapping[str, int]) -> None:
    for name, number in others.items():
        highest[name] = max(number, highest.get(name, 0))


def merge(
    connection: Connection, changes: Iterable[LogicalChange], last: Mapping[tuple[str, str | None], int]
) -> Merged:
    """Apply, in one transaction of the caller's. `last` are the numbers of `last_numbers`."""
    merged = Merged()
    for change in changes:
        merged.changes += 1
        merged.last_seq = max(merged.last_seq, change.seq)
        merged.last_at = max(merged.last_at, change.at)
        if change.document is None or last.get((change.project_uid, change.document)) == change.seq:
            _apply(connection, change, merged)
    return merged


def _apply(connection: Connection, change: LogicalChange, merged: Merged) -> None:
    match change.op:
        case "create":
            _project(connection, change)
        case "drop":
            if _known(connection, change.project_uid) is not None:
                delete_project(connection, change.project)
        case "put" if change.content is not None and change.document is not None:
            merged.documents += _put(connection, change, change.document, change.content)
        case "put" | "delete":
            merged.deleted += _delete(connection, change)


def _put(connection: Connection, change: LogicalChange, external_id: str, content: ShippedDocument) -> bool:
    project = _project(connection, change)
    stored = connection.row(
        "SELECT created_at, content_hash, metadata FROM documents WHERE project_id = ? AND external_id = ?",
        (project.id, external_id),
    )
    if stored is not None and float(stored[0]) > content.created_at:
        return False
    if stored is not None and tuple(stored) == (content.created_at, content.content_hash, content.metadata_json):
        return False
    chunks = tuple(
        PreparedChunk(text, Counter(analyse(searchable_text(content.title, text)))) for text in content.chunks
    )
    document = PreparedDocument(external_id, content.title, content.metadata_json, chunks, content.content_hash)
    upsert_documents(connection, project.name, [document])
    # Its hash counts only beside the time at which it was stored.
    connection.execute(
        "UPDATE documents SET created_at = ?1, hashed_at = ?1 WHERE project_id = ?2 AND external_id = ?3",
        (content.created_at, project.id, external_id),
    )
    return True


def _delete(connection: Connection, change: LogicalChange) -> bool:
    project = _known(connection, change.project_uid)
    if project is None or change.document is None:
        return False
    row = connection.row(
        "SELECT 1 FROM documents WHERE project_id = ? AND external_id = ?", (project.id, change.document)
    )
    if row is not None:
        delete_document(connection, project.name, change.document)
    return row is not None


def _known(connection: Connection, uid: str) -> Project | None:
    row = connection.row("SELECT id, name, uid, seq, created_at FROM projects WHERE uid = ?", (uid,))
    return Project(*row) if row else None


def _project(connection: Connection, change: LogicalChange) -> Project:
    """The project under its own uid, which names its collections in Chroma."""
    known = _known(connection, change.project_uid)
    if known is not None:
        return known
    if find_project(connection, change.project) is not None:
        delete_project(connection, change.project)  # dropped before this one was made; that change was lost
    connection.execute(
        "INSERT INTO projects (name, uid, seq, created_at) "
        "VALUES (?, ?, coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'changes'), 0), ?)",
        (change.project, change.project_uid, change.at),
    )
    made = _known(connection, change.project_uid)
    assert made is not None
    return made
