"""`maintain vacuum` (5E): give the pages that nobody uses any more back to the volume, beside the running service.

Reads go on. Writes wait for as long as it takes and are refused with 503 past their deadline, because VACUUM holds the
write lock from its beginning to its end; a kill leaves the file as it was (the new pages are in the log, uncommitted).
"""

import os
import time
from pathlib import Path

import apsw

from knowledgebeast_service.errors import DatabaseBusyError, StartupError
from knowledgebeast_service.maintenance.result import TaskResult
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.damage import damage_before_opening
from knowledgebeast_service.storage.filesystem import free_bytes
from knowledgebeast_service.storage.locks import VolumeLock, WriteLock

TASK = "vacuum"
LOCK_WAIT_SECONDS = 30.0
LEAST_FREE_PAGES = 0.25
ROOM = 2  # times the file: the new one beside it, and the log that carries it back
CHECKPOINT_SECONDS = 30.0
CHECKPOINT_PAUSE_SECONDS = 0.1


class _RefusedError(Exception):
    def __init__(self, reason: str, sentence: str, measured: dict[str, object] | None = None) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.measured = measured or {}


def vacuum(database: Path, attempt: str, lock_wait_seconds: float = LOCK_WAIT_SECONDS) -> TaskResult:
    """Do it, or say with the numbers why not."""
    try:
        measured = _locked(database, lock_wait_seconds)
    except _RefusedError as error:
        return TaskResult(TASK, attempt, ok=False, measured=error.measured, refused=str(error), reason=error.reason)
    except (StartupError, DatabaseBusyError) as error:
        return TaskResult(TASK, attempt, ok=False, refused=str(error), reason="InProgress")
    except (apsw.FullError, apsw.IOError, apsw.CantOpenError, OSError) as error:
        sentence = f"{database} could not be rewritten, and is as it was ({type(error).__name__}: {error})"
        return TaskResult(TASK, attempt, ok=False, refused=sentence, reason="CannotWrite")
    except (apsw.CorruptError, apsw.NotADBError) as error:
        return TaskResult(TASK, attempt, ok=False, refused=_damaged(database, str(error)), reason="Damaged")
    return TaskResult(TASK, attempt, ok=True, measured=measured)


def _locked(database: Path, wait_seconds: float) -> dict[str, object]:
    if not database.is_file():
        raise _RefusedError("NoDatabase", f"there is no database at {database}")
    volume_lock = VolumeLock(database)
    volume_lock.acquire(exclusive=False, wait_seconds=wait_seconds)
    write_lock = WriteLock(database)
    try:
        finding = damage_before_opening(database)
        if not finding.is_good:
            raise _RefusedError("Damaged", _damaged(database, str(finding)))
        with write_lock.hold(wait_seconds):
            return _rewritten(database)
    finally:
        write_lock.close()
        volume_lock.release()


def _rewritten(database: Path) -> dict[str, object]:
    started = time.monotonic()
    # SQLite's temporary files: /tmp of a pod is small, and going over its bound ends the pod.
    os.environ["SQLITE_TMPDIR"] = str(database.parent)
    connection = Connection(database)
    try:
        before = _measured(connection, database)
        _require_sense(before, database)
        _require_sound(connection, database)
        connection.execute("VACUUM")
        is_short = _checkpoint(connection)
        after = _measured(connection, database)
    finally:
        connection.close()
    return {
        **{f"{name}_before": value for name, value in before.items()},
        **{f"{name}_after": value for name, value in after.items()},
        "freed_bytes": after["available"] - before["available"],
        "is_log_emptied": is_short,
        "seconds": round(time.monotonic() - started, 3),
    }


def _measured(connection: Connection, database: Path) -> dict[str, int]:
    page = connection.number("PRAGMA page_size")
    return {
        "bytes": connection.number("PRAGMA page_count") * page,
        "unused_bytes": connection.number("PRAGMA freelist_count") * page,
        "available": free_bytes(database.parent),
    }


def _require_sense(before: dict[str, int], database: Path) -> None:
    size, unused, free = before["bytes"], before["unused_bytes"], before["available"]
    share = unused / size if size else 0.0
    if share <= LEAST_FREE_PAGES:
        raise _RefusedError(
            "FewFreePages",
            f"{unused:,} of {size:,} bytes of {database} are unused ({share:.0%}); it is worth it above "
            f"{LEAST_FREE_PAGES:.0%}. Nothing was changed.",
            dict(before),
        )
    if free < ROOM * size:
        raise _RefusedError(
            "NoRoom",
            f"VACUUM needs {ROOM * size:,} bytes beside {database}, {free:,} are free. Nothing was changed. "
            "Enlarge the volume or remove something else first.",
            dict(before),
        )


def _require_sound(connection: Connection, database: Path) -> None:
    """Rewriting a damaged file would build on the damage."""
    row = connection.row("PRAGMA quick_check(1)")
    if row is None or row[0] != "ok":
        raise _RefusedError("Damaged", _damaged(database, str(row[0]) if row else "no answer"))


def _checkpoint(connection: Connection) -> bool:
    """Bring the log into the file and cut it off; False where readers stood in the way all the time."""
    deadline = time.monotonic() + CHECKPOINT_SECONDS
    while True:
        row = connection.row("PRAGMA wal_checkpoint(TRUNCATE)")
        if row is not None and row[0] == 0:
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(CHECKPOINT_PAUSE_SECONDS)


def _damaged(database: Path, problem: str) -> str:
    return f"{database} is damaged ({problem}): VACUUM would build on it. Run `maintain check`. Nothing was changed."
