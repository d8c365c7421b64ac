"""Is this file a whole database that answers? Looks at everything that `integrity_check` passes over, too.

`integrity_check` is content with an empty file, with rows that refer to nothing, and with a flipped bit inside a text;
`quick_check` even with an index out of step. So: size and checksum against the manifest, then both checks of SQLite,
schema, counts, and one query whose answer is known.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import apsw

from knowledgebeast_service.maintenance.backups.manifest import DATABASE, MANIFEST, Manifest, read_manifest, sha256_of
from knowledgebeast_service.maintenance.backups.sample import unanswered
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.migrations import NEWEST_VERSION, schema_version
from knowledgebeast_service.storage.outbox import database_id, head, issued, tallied_documents

Reason = Literal[
    "InProgress",
    "NoManifest",
    "BadManifest",
    "OtherObject",
    "OtherVolume",
    "Stale",
    "Empty",
    "WrongSize",
    "WrongChecksum",
    "NotADatabase",
    "Damaged",
    "BrokenReferences",
    "WrongSchema",
    "WrongCounts",
    "NoAnswer",
]

SHOWN = 5
TABLES = frozenset(
    {
        "projects", "documents", "chunks", "terms", "postings", "vectors", "changes", "tasks", "ingest_queue",
        "outbox", "tallies", "identity",
    }
)  # fmt: skip
COUNTED = ("projects", "documents", "chunks", "postings", "vectors", "terms")


@dataclass(frozen=True)
class Problem:
    """Why a file is not good."""

    reason: Reason
    message: str


@dataclass(frozen=True)
class Contents:
    """What a database says of itself."""

    database_id: str
    schema_version: int
    seq: int
    issued: dict[str, int]
    counts: dict[str, int]


def verify_set(folder: Path) -> tuple[Manifest | None, Problem | None]:
    """The manifest where it can be read, and what is wrong with the set; opens nothing for writing."""
    try:
        manifest = read_manifest(folder)
    except FileNotFoundError:
        return None, Problem("NoManifest", f"there is no {MANIFEST}")
    except (OSError, ValueError) as error:
        return None, Problem("BadManifest", f"{MANIFEST} cannot be read: {_first_line(error)}")
    if manifest.id != folder.name:
        return manifest, Problem("BadManifest", f"{MANIFEST} is of {manifest.id}")
    return manifest, _verify_file(folder / DATABASE, manifest)


def _verify_file(path: Path, manifest: Manifest) -> Problem | None:
    size = path.stat().st_size if path.is_file() else 0
    if size == 0:
        return Problem("Empty", f"{DATABASE} is missing or empty")
    if size != manifest.size_bytes:
        return Problem("WrongSize", f"{DATABASE} has {size:,} bytes, the manifest says {manifest.size_bytes:,}")
    if sha256_of(path) != manifest.sha256:
        return Problem("WrongChecksum", f"the SHA-256 of {DATABASE} is not the manifest's")
    contents, problem = verify_database(path)
    if contents is None or problem is not None:
        return problem
    said = Contents(
        manifest.database_id,
        manifest.schema_version,
        manifest.seq,
        dict(manifest.issued),
        dict(manifest.counts),
    )
    return None if contents == said else Problem("WrongCounts", f"the database holds {contents}, not {said}")


def verify_database(path: Path) -> tuple[Contents | None, Problem | None]:
    """Check a file that nobody writes to, in full; its contents are None when it could not be read that far."""
    try:
        connection = Connection(path, read_only=True, immutable=True)
    except apsw.Error as error:
        return None, Problem("NotADatabase", str(error))
    try:
        return _verify(connection)
    except apsw.NotADBError as error:
        return None, Problem("NotADatabase", str(error))
    except apsw.Error as error:
        return None, Problem("Damaged", f"{type(error).__name__}: {error}")
    finally:
        connection.close()


def _verify(connection: Connection) -> tuple[Contents | None, Problem | None]:
    if damage := [str(row[0]) for row in connection.rows(f"PRAGMA integrity_check({SHOWN})") if row[0] != "ok"]:
        return None, Problem("Damaged", "; ".join(damage))
    tables = {str(row[0]) for row in connection.rows("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if missing := TABLES - tables:
        return None, Problem("WrongSchema", f"tables are missing: {', '.join(sorted(missing))}")
    version = schema_version(connection)
    if not 0 < version <= NEWEST_VERSION:
        return None, Problem("WrongSchema", f"schema {version}; this release knows 1 to {NEWEST_VERSION}")
    if broken := list(connection.rows("PRAGMA foreign_key_check"))[:SHOWN]:
        return None, Problem("BrokenReferences", "; ".join(f"row {row[1]} of {row[0]}: no {row[2]}" for row in broken))
    contents = read_contents(connection)
    return contents, _miscounted(connection, contents) or _unanswered(connection)


def read_contents(connection: Connection) -> Contents:
    """Inside one transaction of the caller's, if others write."""
    return Contents(
        database_id=database_id(connection),
        schema_version=schema_version(connection),
        seq=head(connection),
        issued=issued(connection),
        counts={table: connection.number(f"SELECT count(*) FROM {table}") for table in COUNTED},
    )


def _miscounted(connection: Connection, contents: Contents) -> Problem | None:
    counts = contents.counts
    tallied = tallied_documents(connection)
    if counts["documents"] != tallied:
        return Problem("WrongCounts", f"{counts['documents']:,} documents; inserted less deleted ones make {tallied:,}")
    if counts["chunks"] != counts["postings"]:
        return Problem("WrongCounts", f"{counts['chunks']:,} chunks, but {counts['postings']:,} of them have postings")
    empty = connection.number(
        "SELECT count(*) FROM documents d WHERE NOT EXISTS (SELECT 1 FROM chunks c WHERE c.document_id = d.id)"
    )
    return Problem("WrongCounts", f"{empty:,} documents have no text") if empty else None


def _unanswered(connection: Connection) -> Problem | None:
    chunk = unanswered(connection)
    return None if chunk is None else Problem("NoAnswer", f"chunk {chunk} is not found by its own words")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
