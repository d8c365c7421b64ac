"""What can be seen of a database file before SQLite has opened it, and of its tables before anything is written.

SQLite makes an empty database where there is none, and is content with any file of its format. So a lost file would
come back as an empty service, and another application's file would get our tables.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.migrations import schema_version
from knowledgebeast_service.storage.volume import NAME as IDENTITY
from knowledgebeast_service.storage.volume import owned_by_another, read_identity
from knowledgebeast_service.storage.wal_tail import wal_state

Kind = Literal["none", "index", "pages", "missing", "empty", "not-a-database", "schema", "wrong-volume"]

MAGIC = b"SQLite format 3\0"
HEADER_BYTES = 100
LARGEST_PAGE = 65_536  # stored as 1
MARKER = "restore.json"  # of a restore that has begun and not ended; see maintenance.restore.marker
TABLES = frozenset(
    {"projects", "documents", "chunks", "terms", "postings", "vectors", "changes", "tasks", "ingest_queue"}
)


@dataclass(frozen=True)
class Finding:
    """What is wrong with a database; `problems` are sentences."""

    damage: Kind = "none"
    problems: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        return self.damage == "none"

    def __str__(self) -> str:
        return f"{self.damage}: {'; '.join(self.problems)}"


GOOD = Finding()


def side_files(database: Path) -> list[Path]:
    """Files that belong to the database and to no other: they must move with it, or they would be applied to it."""
    return [database.with_name(f"{database.name}{suffix}") for suffix in ("-wal", "-shm", "-journal")]


def another_volume(data_dir: Path, owner: str | None) -> Finding:
    """Bad where the volume says that it is of another object: whatever lies on it is none of ours."""
    sentence = owned_by_another(data_dir, owner)
    return GOOD if sentence is None else Finding("wrong-volume", (sentence,))


def restore_under_way(data_dir: Path) -> Finding:
    """Bad while the new file of a repair that did not end waits to take the old one's place."""
    try:
        marker = json.loads((data_dir / MARKER).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return GOOD
    if marker["step"] == "preparing":
        return GOOD  # of a run that was killed; nothing has been changed
    sentence = f"{marker['task']} {marker['attempt']} was interrupted: run it again under the same id"
    return Finding("missing", (sentence,))


def file_damage(database: Path) -> Finding:
    """What the file alone shows. Never while this process has it open: closing it would drop SQLite's locks."""
    had_one = holds_a_database(database.parent)
    try:
        size = database.stat().st_size
    except FileNotFoundError:
        return Finding("missing", (f"{database} is gone; {IDENTITY} says that it was here",)) if had_one else GOOD
    if size == 0:
        return Finding("empty", (f"{database} has 0 bytes",)) if had_one else GOOD
    with database.open("rb") as file:
        header = file.read(HEADER_BYTES)
    if len(header) < HEADER_BYTES or not header.startswith(MAGIC):
        return Finding("not-a-database", (f"{database} begins with {header[:16]!r}, not as a SQLite file",))
    log = wal_state(database)
    if not log.has_wal and log.frames != log.copied:
        return Finding("pages", (f"its -wal was taken away, with {log.frames} pages that were committed",))
    return _truncation(database, header, size)


def holds_a_database(data_dir: Path) -> bool:
    """Whether this volume is known to have had a database. A marker that cannot be read counts as one that says so."""
    identity = read_identity(data_dir)
    return identity.has_database if identity is not None else (data_dir / IDENTITY).exists()


def schema_damage(connection: Connection, *, had_one: bool) -> Finding:
    """Whether these are our tables. An empty file is right only where there never was a database."""
    tables = {str(row[0]) for row in connection.rows("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    version = schema_version(connection) if "schema_version" in tables else 0
    if version == 0 and tables:
        return Finding("schema", (f"it is of another application, with tables such as {_some(tables)}",))
    if version == 0:
        return Finding("schema", ("it has no tables at all",)) if had_one else GOOD
    if missing := TABLES - tables:
        return Finding("schema", (f"tables are missing: {_some(missing)}",))
    return GOOD


def _truncation(database: Path, header: bytes, size: int) -> Finding:
    """A file that ends before its last page. With a `-wal` the missing pages may be there: SQLite has to say."""
    wal = side_files(database)[0]
    if wal.exists() and wal.stat().st_size > 0:
        return GOOD
    stored = int.from_bytes(header[16:18], "big")
    page = LARGEST_PAGE if stored == 1 else stored
    pages = int.from_bytes(header[28:32], "big")
    is_count_valid = header[24:28] == header[92:96]
    if page < 512 or not is_count_valid or size >= pages * page:
        return GOOD
    return Finding("pages", (f"{database} is cut off: {size:,} bytes of {pages * page:,}",))


def _some(names: Iterable[str], shown: int = 5) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:shown]) + (" …" if len(ordered) > shown else "")


def inode_of(path: Path) -> tuple[int, int] | None:
    """What a path names now; None = nothing. By stat, for opening and closing would drop SQLite's locks."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return status.st_dev, status.st_ino


def damage_before_opening(database: Path, owner: str | None = None) -> Finding:
    """All that can be told without writing: a connection that may write changes even another application's file."""
    folder = database.parent
    for finding in (another_volume(folder, owner), restore_under_way(folder), file_damage(database)):
        if not finding.is_good:
            return finding
    if not database.exists() or database.stat().st_size == 0 or side_files(database)[2].exists():
        return GOOD  # new, or with a journal that only a connection that may write can roll back
    connection = Connection(database, read_only=True)
    try:
        return schema_damage(connection, had_one=holds_a_database(database.parent))
    finally:
        connection.close()
