"""From rows of the outbox to changes that can be shipped: the documents are read as they are now."""

import json
from collections.abc import Mapping

from knowledgebeast_service.shipping.segments import LogicalChange, ShippedDocument
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.outbox import OutboxRow, issued, rows_after

ROWS_AT_ONCE = 500
BATCH_BYTES = 4 * 1024 * 1024  # of text; one document may be larger


def next_changes(connection: Connection, after: int) -> list[LogicalChange]:
    """The changes after `after`, as many as one sync should cover. To be read inside one transaction."""
    highest = issued(connection)
    found: list[LogicalChange] = []
    size = 0
    for row in list(rows_after(connection, after, ROWS_AT_ONCE)):
        change = _change(connection, row, highest)
        found.append(change)
        size += sum(len(chunk) for chunk in change.content.chunks) if change.content else 0
        if size >= BATCH_BYTES:
            break
    return found


def _change(connection: Connection, row: OutboxRow, highest: Mapping[str, int]) -> LogicalChange:
    content = _document(connection, row) if row.op == "put" else None
    return LogicalChange(
        seq=row.number,
        at=row.at,
        op=row.op,  # pyright: ignore[reportArgumentType]  # the table checks it
        project=row.project,
        project_uid=row.project_uid,
        document=row.document,
        content=content,
        issued=highest,
    )


def _document(connection: Connection, row: OutboxRow) -> ShippedDocument | None:
    """None when the document is gone."""
    found = connection.row(
        "SELECT d.title, d.metadata, d.created_at, CASE d.hashed_at WHEN d.created_at THEN d.content_hash ELSE '' END, "
        "(SELECT json_group_array(text ORDER BY position) FROM chunks c WHERE c.document_id = d.id) "
        "FROM documents d WHERE d.project_id = ? AND d.external_id = ?",
        (row.project_id, row.document),
    )
    if found is None:
        return None
    title, metadata, created_at, content_hash, chunks = found
    return ShippedDocument(title, metadata, created_at, content_hash, tuple(json.loads(chunks)))
