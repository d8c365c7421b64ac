"""The schema, as a list of additive steps.

A step only adds (tables, columns with defaults, indexes), so that the release before it can still read and write the
file after a rollback; a file from the future is therefore opened, not refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.outbox import OUTBOX
from knowledgebeast_service.storage.restores import RESTORES
from knowledgebeast_service.storage.top_queries import TOP_QUERIES


@dataclass(frozen=True)
class Migration:
    """One step; `version` is what the file has after it."""

    version: int
    subject: str
    sql: str


FIRST_SCHEMA = """
CREATE TABLE projects (
    id INTEGER PRIMARY KEY AUTOINCREMENT,      -- never used again: caches and replicas may still hold it
    name TEXT NOT NULL UNIQUE,
    uid TEXT NOT NULL UNIQUE,                  -- names the Chroma collections, also across restored databases
    seq INTEGER NOT NULL DEFAULT 0,            -- the project's own sequence: last value in changes.project_seq
    created_at REAL NOT NULL
) STRICT;

CREATE TABLE documents (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    project_id INTEGER NOT NULL REFERENCES projects(id),
    external_id TEXT NOT NULL,                 -- the caller's id
    title TEXT NOT NULL,
    metadata TEXT NOT NULL,                    -- JSON object
    created_at REAL NOT NULL,
    UNIQUE (project_id, external_id)
) STRICT;

-- The chunks of a document, joined in order, are its text.
CREATE TABLE chunks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,      -- the id in Chroma and in the keyword index; never used again
    document_id INTEGER NOT NULL REFERENCES documents(id),
    position INTEGER NOT NULL,
    text TEXT NOT NULL,
    UNIQUE (document_id, position)
) STRICT;

CREATE TABLE terms (
    id INTEGER PRIMARY KEY,
    text TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE postings (
    chunk_id INTEGER PRIMARY KEY REFERENCES chunks(id),
    length INTEGER NOT NULL,                   -- terms in the chunk, repeats counted
    term_ids BLOB NOT NULL,                    -- little-endian int32, ascending
    counts BLOB NOT NULL                       -- little-endian int32, beside term_ids
) STRICT;

CREATE TABLE vectors (
    chunk_id INTEGER NOT NULL REFERENCES chunks(id),
    model_hash TEXT NOT NULL,
    project_id INTEGER NOT NULL,
    vector BLOB NOT NULL,                      -- little-endian float16, unit length
    UNIQUE (project_id, model_hash, chunk_id)
) STRICT;
CREATE INDEX vectors_by_chunk ON vectors (chunk_id);

-- What replicas replay. 'add' finds its postings by chunk; 'remove' carries the term ids of the removed postings;
-- 'touch' says that answers may differ (vectors arrived); 'drop' ends a project.
CREATE TABLE changes (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    project_id INTEGER NOT NULL,
    project_seq INTEGER NOT NULL,
    op TEXT NOT NULL CHECK (op IN ('add', 'remove', 'touch', 'drop')),
    chunk_id INTEGER,
    document_id INTEGER,
    term_ids BLOB
) STRICT;

CREATE TABLE tasks (
    id TEXT PRIMARY KEY,
    project_id INTEGER NOT NULL,
    total INTEGER NOT NULL,                    -- documents
    errors TEXT NOT NULL,                      -- JSON list of {"id", "error"}
    created_at REAL NOT NULL
) STRICT;

-- One row for each chunk that the derived stores do not yet agree on. 'embed' needs the model, then becomes
-- 'publish'; 'publish' and 'refill' need Chroma; 'delete' removes a vector from Chroma.
CREATE TABLE ingest_queue (
    chunk_id INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL,
    project_uid TEXT NOT NULL,                 -- of the collection, for rows that outlive their chunk
    document_id INTEGER NOT NULL,
    task_id TEXT,
    op TEXT NOT NULL CHECK (op IN ('embed', 'publish', 'refill', 'delete')),
    lease_owner TEXT,
    lease_until REAL NOT NULL DEFAULT 0,
    enqueued_at REAL NOT NULL
) STRICT;
CREATE INDEX ingest_queue_by_op ON ingest_queue (op, chunk_id);
CREATE INDEX ingest_queue_by_task ON ingest_queue (task_id) WHERE task_id IS NOT NULL;
CREATE INDEX ingest_queue_by_document ON ingest_queue (document_id);

-- Collections of deleted projects that Chroma may still hold.
CREATE TABLE retired_projects (
    uid TEXT PRIMARY KEY,
    model_hashes TEXT NOT NULL,                -- JSON list
    retired_at REAL NOT NULL
) STRICT;
"""

INGEST_SCHEMA = """
-- Of title, text, and how they are cut and analysed; believed only while hashed_at = created_at.
ALTER TABLE documents ADD COLUMN content_hash TEXT NOT NULL DEFAULT '';
ALTER TABLE documents ADD COLUMN hashed_at REAL NOT NULL DEFAULT 0;
-- JSON list: documents (internal ids) that a request repeated; their chunks wait under the task that brought them.
ALTER TABLE tasks ADD COLUMN unchanged TEXT NOT NULL DEFAULT '[]';
ALTER TABLE ingest_queue ADD COLUMN tries INTEGER NOT NULL DEFAULT 0;

-- Chunks that were given up after so many tries that failed for reasons of their own. They stay searchable by keyword.
CREATE TABLE dead_letters (
    chunk_id INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL,
    project_uid TEXT NOT NULL,
    document_id INTEGER NOT NULL,
    task_id TEXT,
    op TEXT NOT NULL CHECK (op IN ('embed', 'publish', 'refill', 'delete')),
    model_hash TEXT NOT NULL,
    reason TEXT NOT NULL,
    tries INTEGER NOT NULL,
    failed_at REAL NOT NULL
) STRICT;
CREATE INDEX dead_letters_by_project ON dead_letters (project_id, chunk_id);
CREATE INDEX dead_letters_by_task ON dead_letters (task_id) WHERE task_id IS NOT NULL;
CREATE INDEX dead_letters_by_document ON dead_letters (document_id);

-- How far the change log was when; by these its old entries are found.
CREATE TABLE change_marks (
    seq INTEGER PRIMARY KEY,
    at REAL NOT NULL
) STRICT;
"""

# Which collections of Chroma hold a project's vectors; see `generations`. No row = generation 0 in one part.
GENERATIONS = """
CREATE TABLE collection_generations (
    project_uid TEXT NOT NULL,
    model_hash TEXT NOT NULL,
    number INTEGER NOT NULL,
    parts INTEGER NOT NULL CHECK (parts >= 1),
    state TEXT NOT NULL CHECK (state IN ('building', 'serving', 'kept', 'dropping')),
    attempt TEXT NOT NULL,                     -- of the maintenance task that made it
    changed_at REAL NOT NULL,                  -- while building: when the task was last heard of
    PRIMARY KEY (project_uid, model_hash, number)
) STRICT;
CREATE UNIQUE INDEX generations_serving ON collection_generations (project_uid, model_hash) WHERE state = 'serving';
CREATE UNIQUE INDEX generations_building ON collection_generations (project_uid, model_hash) WHERE state = 'building';
"""

# `analyser`: version of the analyser that made the postings; the default is what a release before it writes.
# `index_marks`: see the module of this name.
INDEX_SCHEMA = """
ALTER TABLE postings ADD COLUMN analyser INTEGER NOT NULL DEFAULT 1;
CREATE INDEX postings_by_analyser ON postings (analyser, chunk_id);
CREATE TABLE index_marks (
    tag TEXT PRIMARY KEY,
    seq INTEGER NOT NULL,                      -- of the change log
    made_at REAL NOT NULL
) STRICT;
"""

# Of what was embedded and what came of it (`records.vector_checksum`); NULL is what a release before it writes.
VECTOR_CHECKSUMS = "ALTER TABLE vectors ADD COLUMN checksum BLOB"

IDENTITY_VERSION = 6  # from here on a database and its volume have an identity
MIGRATIONS: tuple[Migration, ...] = (
    Migration(1, "projects, documents, search and queue", FIRST_SCHEMA),
    Migration(2, "content hashes and dead letters", INGEST_SCHEMA),
    Migration(3, "generations of collections", GENERATIONS),
    Migration(4, "version of the analyser, marks of derived indexes", INDEX_SCHEMA),
    Migration(5, "most asked queries", TOP_QUERIES),
    Migration(IDENTITY_VERSION, "identity, and the changes to ship", OUTBOX),
    Migration(7, "restores", RESTORES),
    Migration(8, "checksums of vectors", VECTOR_CHECKSUMS),
)
NEWEST_VERSION = MIGRATIONS[-1].version


def schema_version(connection: Connection) -> int:
    """Version of the file; 0 = empty."""
    known = connection.row("SELECT 1 FROM sqlite_schema WHERE name = 'schema_version'")
    if known is None:
        return 0
    row = connection.row("SELECT max(version) FROM schema_version")
    return int(row[0]) if row and row[0] is not None else 0


def migrate(connection: Connection, migrations: Sequence[Migration] = MIGRATIONS) -> list[int]:
    """Apply the missing steps in one transaction and return their versions. The caller holds the write lock."""
    with connection.transaction():
        current = schema_version(connection)
        if current == 0:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS schema_version "
                "(version INTEGER PRIMARY KEY, subject TEXT NOT NULL, applied_at REAL NOT NULL) STRICT"
            )
        missing = [step for step in migrations if step.version > current]
        for step in missing:
            connection.execute(step.sql)
            connection.execute(
                "INSERT INTO schema_version VALUES (?, ?, unixepoch('subsec'))", (step.version, step.subject)
            )
    return [step.version for step in missing]
