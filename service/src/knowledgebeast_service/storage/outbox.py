"""What is to be shipped to the backup volume: each change to documents and projects, numbered without gaps.

Filled by triggers, so that no writer can forget it, not even an older release after a rollback. A row says what was
changed; the content is read when it is shipped, as it is then.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from knowledgebeast_service.storage.connection import Connection

DISCARD_BATCH = 5000
KEPT_ROWS = 1_000_000  # about 100 MB

# `documents` minus what was ever deleted is a count that a lost row cannot keep: see `tallied_documents`.
OUTBOX = """
CREATE TABLE identity (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    database_id TEXT NOT NULL                  -- stays the same in backups and in what is restored from them
) STRICT;
INSERT INTO identity VALUES (1, lower(hex(randomblob(16))));

CREATE TABLE tallies (
    name TEXT PRIMARY KEY CHECK (name IN ('documents_inserted', 'documents_deleted')),
    total INTEGER NOT NULL
) STRICT;
INSERT INTO tallies SELECT 'documents_inserted', count(*) FROM documents;
INSERT INTO tallies VALUES ('documents_deleted', 0);

CREATE TABLE outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT,  -- rolled back with its transaction: no gaps
    op TEXT NOT NULL CHECK (op IN ('put', 'delete', 'create', 'drop')),
    project_id INTEGER NOT NULL,
    project TEXT NOT NULL,
    project_uid TEXT NOT NULL,
    document TEXT,                             -- the caller's id; NULL for a change to the project
    at REAL NOT NULL
) STRICT;

CREATE TRIGGER outbox_document_inserted AFTER INSERT ON documents BEGIN
    INSERT INTO outbox (op, project_id, project, project_uid, document, at)
        SELECT 'put', id, name, uid, NEW.external_id, unixepoch('subsec') FROM projects WHERE id = NEW.project_id;
    UPDATE tallies SET total = total + 1 WHERE name = 'documents_inserted';
END;
CREATE TRIGGER outbox_document_updated AFTER UPDATE OF title, metadata, created_at ON documents BEGIN
    INSERT INTO outbox (op, project_id, project, project_uid, document, at)
        SELECT 'put', id, name, uid, NEW.external_id, unixepoch('subsec') FROM projects WHERE id = NEW.project_id;
END;
-- The documents of a project that is being deleted go with it, in one change.
CREATE TRIGGER outbox_document_deleted AFTER DELETE ON documents BEGIN
    INSERT INTO outbox (op, project_id, project, project_uid, document, at)
        SELECT 'delete', id, name, uid, OLD.external_id, unixepoch('subsec') FROM projects
        WHERE id = OLD.project_id AND uid NOT IN (SELECT uid FROM retired_projects);
    UPDATE tallies SET total = total + 1 WHERE name = 'documents_deleted';
END;
CREATE TRIGGER outbox_project_inserted AFTER INSERT ON projects BEGIN
    INSERT INTO outbox (op, project_id, project, project_uid, at)
        VALUES ('create', NEW.id, NEW.name, NEW.uid, unixepoch('subsec'));
END;
CREATE TRIGGER outbox_project_deleted AFTER DELETE ON projects BEGIN
    INSERT INTO outbox (op, project_id, project, project_uid, at)
        VALUES ('drop', OLD.id, OLD.name, OLD.uid, unixepoch('subsec'));
END;
"""


@dataclass(frozen=True)
class OutboxRow:
    """One change that was committed at `at`."""

    number: int
    op: str
    project_id: int
    project: str
    project_uid: str
    document: str | None
    at: float


def database_id(connection: Connection) -> str:
    """Of the data: the same in every backup of it. Empty in a file from before the outbox."""
    if connection.row("SELECT 1 FROM sqlite_schema WHERE name = 'identity'") is None:
        return ""
    row = connection.row("SELECT database_id FROM identity")
    return str(row[0]) if row else ""


def issued(connection: Connection) -> dict[str, int]:
    """The highest number ever given in each sequence: outbox, changes, chunks, documents, projects …"""
    return {str(name): int(seq) for name, seq in connection.rows("SELECT name, seq FROM sqlite_sequence")}


def head(connection: Connection) -> int:
    """Number of the newest change; 0 before the first."""
    return connection.number("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'")


def rows_after(connection: Connection, number: int, limit: int) -> Iterator[OutboxRow]:
    rows = connection.rows(
        "SELECT number, op, project_id, project, project_uid, document, at FROM outbox "
        "WHERE number > ? ORDER BY number LIMIT ?",
        (number, limit),
    )
    return (OutboxRow(*row) for row in rows)


def tallied_documents(connection: Connection) -> int:
    """How many documents there must be: those ever inserted less those ever deleted."""
    return connection.number(
        "SELECT total(CASE name WHEN 'documents_inserted' THEN total ELSE -total END) FROM tallies"
    )


def recount(connection: Connection) -> None:
    """Make the tallies agree with the documents; for whoever fills a database past the triggers."""
    connection.execute(
        "UPDATE tallies SET total = (SELECT count(*) FROM documents) + "
        "(SELECT total FROM tallies WHERE name = 'documents_deleted') WHERE name = 'documents_inserted'"
    )


def first_kept(connection: Connection) -> int:
    """The first change that can still be shipped; the next one to come when there is none."""
    row = connection.row("SELECT min(number) FROM outbox")
    return int(row[0]) if row and row[0] is not None else head(connection) + 1


def discard(connection: Connection, up_to: int) -> None:
    """Delete up to DISCARD_BATCH rows that are shipped, or never will be."""
    connection.execute(
        "DELETE FROM outbox WHERE number IN (SELECT number FROM outbox WHERE number <= ? ORDER BY number LIMIT ?)",
        (up_to, DISCARD_BATCH),
    )


def superfluous(connection: Connection, *, is_shipping: bool) -> int:
    """Number up to which rows have to go without having been shipped; 0 = none.

    All, where nothing is shipped. Else those before the last KEPT_ROWS: a backup volume that stays away must not fill
    the volume of the database. The gap shows in what is shipped later.
    """
    newest = head(connection)
    up_to = newest - KEPT_ROWS if is_shipping else newest
    return up_to if first_kept(connection) <= up_to else 0
