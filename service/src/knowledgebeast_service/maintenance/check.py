"""`maintain check`: is the database whole? Runs beside the service, under the shared volume lock.

`integrity_check`, not `quick_check`, which passes over indexes out of step; and more than that, because it is content
with an empty file and does not look at foreign keys.
"""

import time
from pathlib import Path

import apsw

from knowledgebeast_service.errors import StartupError
from knowledgebeast_service.maintenance.result import TaskResult
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.locks import VolumeLock
from knowledgebeast_service.storage.migrations import schema_version

TASK = "check"
LOCK_WAIT_SECONDS = 30.0
SHOWN = 10
TABLES = frozenset(
    {"projects", "documents", "chunks", "terms", "postings", "vectors", "changes", "tasks", "ingest_queue"}
)


def check(database: Path, attempt: str) -> TaskResult:
    """Read the whole database; `ok` is False when anything is wrong, and `measured` says what."""
    if not database.is_file():
        return TaskResult(TASK, attempt, ok=False, refused=f"there is no database at {database}")
    lock = VolumeLock(database)
    try:
        lock.acquire(exclusive=False, wait_seconds=LOCK_WAIT_SECONDS)
    except StartupError as error:
        return TaskResult(TASK, attempt, ok=False, refused=str(error))
    started = time.monotonic()
    try:
        measured = _inspect(database)
    except apsw.Error as error:
        measured = {"problems": [f"{type(error).__name__}: {error}"]}
    finally:
        lock.release()
    measured |= {"seconds": round(time.monotonic() - started, 3), "bytes": database.stat().st_size}
    return TaskResult(TASK, attempt, ok=not measured["problems"], measured=measured)


def _inspect(database: Path) -> dict[str, object]:
    connection = Connection(database, read_only=True)
    try:
        problems = [str(row[0]) for row in connection.rows(f"PRAGMA integrity_check({SHOWN})") if row[0] != "ok"]
        tables = {str(row[0]) for row in connection.rows("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        if missing := TABLES - tables:
            return {"problems": [*problems, f"tables are missing: {', '.join(sorted(missing))}"]}
        for table, rowid, parent, _ in list(connection.rows("PRAGMA foreign_key_check"))[:SHOWN]:
            problems.append(f"row {rowid} of {table} refers to a missing row of {parent}")
        without_postings = connection.number(
            "SELECT count(*) FROM chunks c WHERE NOT EXISTS (SELECT 1 FROM postings p WHERE p.chunk_id = c.id)"
        )
        if without_postings:
            problems.append(f"{without_postings} chunks have no postings")
        return {
            "problems": problems[:SHOWN],
            "schema": schema_version(connection),
            "seq": connection.number("SELECT max(seq) FROM changes"),
            **{f"{table}_rows": connection.number(f"SELECT count(*) FROM {table}") for table in sorted(TABLES)},
        }
    finally:
        connection.close()
