"""`maintain drill`: a restore of the newest good backup into scratch, to know that it works and how long it takes."""

import shutil
import time
from pathlib import Path

import apsw

from knowledgebeast_service.errors import StartupError
from knowledgebeast_service.maintenance.backups.catalogue import Expected, Verdict, judged
from knowledgebeast_service.maintenance.backups.manifest import DATABASE, Manifest
from knowledgebeast_service.maintenance.backups.verify import verify_database
from knowledgebeast_service.maintenance.result import TaskResult
from knowledgebeast_service.shipping.segments import survey
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.durable import copy_file, make_folder
from knowledgebeast_service.storage.filesystem import free_bytes, is_full

TASK = "drill"
NAME = "knowledgebeast.db"
UNWRITABLE = (OSError, apsw.FullError, apsw.IOError, apsw.CantOpenError)
SPACE_FACTOR = 2  # the copy, and the log of whoever opens it


def drill(backup_dir: Path, scratch_dir: Path, attempt: str, expected: Expected | None = None) -> TaskResult:
    """Restore, open as the service does, check in full; `scratch_dir`/drill-`attempt` is gone afterwards."""
    started = time.monotonic()
    skipped: list[Verdict] = []
    chosen: Verdict | None = None
    for verdict in judged(backup_dir, expected):
        if verdict.ok:
            chosen = verdict
            break
        skipped.append(verdict)
    measured: dict[str, object] = {"skipped": [{"id": one.id, "reason": one.reason} for one in skipped]}
    if chosen is None or chosen.manifest is None:
        return _refused(attempt, "NoVerifiedBackup", f"none of {len(skipped)} sets in {backup_dir} is good", measured)
    manifest = chosen.manifest
    needed = SPACE_FACTOR * manifest.size_bytes
    scratch = scratch_dir / f"drill-{attempt}"
    shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
    try:
        make_folder(scratch)
        free = free_bytes(scratch)
        if free < needed:
            return _refused(
                attempt, "DiskFull", f"a drill needs {needed:,} bytes in {scratch_dir}, {free:,} are free", measured
            )
        problem = _rehearsed(chosen.path / DATABASE, scratch, manifest)
    except UNWRITABLE as error:  # which says nothing of the backup
        reason = "DiskFull" if is_full(error) else "CannotWrite"
        return _refused(attempt, reason, f"{scratch_dir} cannot be written ({error}): nothing was rehearsed", measured)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    shipped = survey(backup_dir, manifest.seq, manifest.database_id)
    measured |= {
        "backup_id": manifest.id,
        "documents": manifest.counts.get("documents", 0),
        "ok": problem is None,
        "shipped_to": shipped.last,
        "shipped_gaps": len(shipped.missing),
        "seconds": round(time.monotonic() - started, 3),
    }
    if problem is not None:
        measured["problems"] = [problem]
    return TaskResult(TASK, attempt, ok=problem is None, measured=measured)


def _rehearsed(source: Path, scratch: Path, manifest: Manifest) -> str | None:
    """What went wrong, or None."""
    restored = scratch / NAME
    copy_file(source, restored)
    database = Database(restored)
    try:
        database.open(volume_lock_wait_seconds=0)  # migrates it, as the release that runs would
    except StartupError as error:
        if isinstance(error.__cause__, UNWRITABLE):
            raise error.__cause__ from error
        return f"the restored database does not open: {error}"
    database.close()  # leaves no log behind
    contents, problem = verify_database(restored)
    if contents is None or problem is not None:
        return f"the restored database is not good: {problem.message if problem else 'it cannot be read'}"
    if contents.counts != dict(manifest.counts) or contents.seq != manifest.seq:
        return f"the restored database holds {contents.counts}, the manifest says {dict(manifest.counts)}"
    return None


def _refused(attempt: str, reason: str, message: str, measured: dict[str, object]) -> TaskResult:
    return TaskResult(TASK, attempt, ok=False, measured=measured, refused=message, reason=reason)
