"""`maintain check`: is the database whole, and if not, what is the cure? Runs beside the service."""

import time
from pathlib import Path

import apsw

from knowledgebeast_service.errors import StartupError
from knowledgebeast_service.maintenance.restore.classify import Report, classify
from knowledgebeast_service.maintenance.restore.floors import floors_of
from knowledgebeast_service.maintenance.result import TaskResult
from knowledgebeast_service.storage.damage import GOOD, restore_under_way
from knowledgebeast_service.storage.locks import VolumeLock
from knowledgebeast_service.storage.permissions import NOT_READABLE, not_permitted

TASK = "check"
LOCK_WAIT_SECONDS = 30.0
SHOWN = 10


def check(database: Path, attempt: str, backup_dir: Path | None = None) -> TaskResult:
    """Read the whole database; `ok` is False when anything is wrong, and `measured` says what."""
    if (sentence := not_permitted(database)) is not None:
        return TaskResult(TASK, attempt, ok=False, refused=sentence, reason=NOT_READABLE)
    lock = VolumeLock(database)
    try:
        lock.acquire(exclusive=False, wait_seconds=LOCK_WAIT_SECONDS)
    except StartupError as error:
        return TaskResult(TASK, attempt, ok=False, refused=str(error), reason="InProgress")
    except FileNotFoundError:
        sentence = f"there is no folder {database.parent}: is the volume mounted?"
        return TaskResult(
            TASK, attempt, ok=False, measured={"damage": "wrong-volume", "problems": [sentence]}, refused=sentence
        )
    except PermissionError as error:
        return TaskResult(TASK, attempt, ok=False, refused=_unreadable(database, error), reason=NOT_READABLE)
    started = time.monotonic()
    try:
        report = _classified(database, backup_dir)
    except (OSError, apsw.IOError, apsw.CantOpenError) as error:
        return TaskResult(TASK, attempt, ok=False, refused=_unreadable(database, error), reason=NOT_READABLE)
    finally:
        lock.release()
    finding = report.finding
    measured: dict[str, object] = {
        "damage": finding.damage,
        "problems": list(finding.problems[:SHOWN]),
        "seq": report.seq,
        "documents": report.documents,
        "schema": report.schema,
        **{f"{table}_rows": count for table, count in report.rows.items()},
        "seconds": round(time.monotonic() - started, 3),
        "bytes": database.stat().st_size if database.exists() else 0,
    }
    return TaskResult(TASK, attempt, ok=finding.is_good, measured=measured)


def _classified(database: Path, backup_dir: Path | None) -> Report:
    waiting = restore_under_way(database.parent)
    if waiting != GOOD:
        return Report(waiting)
    return classify(database, floors=floors_of(backup_dir))


def _unreadable(database: Path, error: Exception) -> str:
    return f"{database} cannot be read ({type(error).__name__}: {error}); its content is not known to be damaged"
