"""`maintain put-back`: what a repair has put into quarantine takes its place again, and the present database goes to
quarantine in turn. For a restore that ought not to have been: to the wrong backup, or of a database that was whole.

The quarantine is only read. What was written since the repair is given up with the present file; so it is counted, and
needs an approval. A database that is still damaged is not put back: no service would open it.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import apsw

from knowledgebeast_service.maintenance.restore.classify import Report, classify
from knowledgebeast_service.maintenance.restore.fenced import LOCK_WAIT_SECONDS, Progress, RefusedError, Steps, repair
from knowledgebeast_service.maintenance.restore.marker import QUARANTINE, begin
from knowledgebeast_service.maintenance.restore.renew import announce, raise_sequences, renew_identity
from knowledgebeast_service.maintenance.result import TaskResult
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.damage import side_files
from knowledgebeast_service.storage.durable import copy_file, sync_file
from knowledgebeast_service.storage.migrations import migrate
from knowledgebeast_service.storage.outbox import issued

TASK = "put-back"
MIB = 1024 * 1024
RESERVE_BYTES = 16 * MIB


@dataclass(frozen=True)
class Present:
    """What the file says that is in place now; None and {} where it cannot be read."""

    newer_documents: int | None
    issued: dict[str, int]


def put_back(
    database: Path,
    of: str,
    attempt: str,
    progress: Progress = lambda _step: None,
    *,
    approve_loss: bool = False,
    lock_wait_seconds: float = LOCK_WAIT_SECONDS,
) -> TaskResult:
    """Do it, or say why not. `of` is the attempt whose quarantine holds the file."""

    def prepare(steps: Steps) -> dict[str, object]:
        original = _original(database, of)
        present = _present(database)
        _require_approval(present, approve_loss=approve_loss)
        _require_space(original)
        copy = begin(database.parent, TASK, attempt, steps.started_at) / database.name
        with steps.step("copy"):
            for path in (original, side_files(original)[0]):
                if path.exists():
                    copy_file(path, copy.with_name(path.name))
        with steps.step("check"):
            _require_whole(classify(copy), original)
        with steps.step("renew"):
            _renew(copy, present, attempt, of)
        with steps.step("check"):
            report = classify(copy)
            _require_whole(report, original)
        return {
            "of": of,
            "documents": report.documents,
            "given_up_documents": present.newer_documents,
            "quarantine": f"{QUARANTINE}/{attempt}",
            "seconds": steps.total(),
            "steps": dict(steps.seconds),
        }

    return repair(TASK, attempt, database, prepare, progress, lock_wait_seconds)


def _original(database: Path, of: str) -> Path:
    quarantine = database.parent / QUARANTINE
    known = sorted(path.parent.name for path in quarantine.glob(f"*/{database.name}"))
    if of not in known:
        listed = ", ".join(known) or "none"
        raise RefusedError(
            "NothingToPutBack", f"{quarantine} has no database of attempt {of}; it has: {listed}. Nothing was changed."
        )
    return quarantine / of / database.name


def _present(database: Path) -> Present:
    if not database.exists():
        return Present(0, {})
    try:
        connection = Connection(database, read_only=True)
        try:
            newer = connection.number(
                "SELECT count(*) FROM documents WHERE created_at > (SELECT coalesce(max(restored_at), 0) FROM restores)"
            )
            return Present(newer, issued(connection))
        finally:
            connection.close()
    except (apsw.CorruptError, apsw.NotADBError, apsw.SQLError):
        return Present(None, {})


def _require_approval(present: Present, *, approve_loss: bool) -> None:
    if present.newer_documents == 0 or approve_loss:
        return
    count = "an unknown number of" if present.newer_documents is None else f"{present.newer_documents:,}"
    raise RefusedError(
        "ExpectedLossTooHigh",
        f"{count} documents were written since the repair, and would stay in quarantine. Nothing was changed. "
        "Approve it with --approve-loss.",
        {"given_up_documents": present.newer_documents},
    )


def _require_space(original: Path) -> None:
    needed = 2 * sum(path.stat().st_size for path in (original, *side_files(original)) if path.exists()) + RESERVE_BYTES
    free = shutil.disk_usage(original.parent).free
    if free < needed:
        raise RefusedError(
            "DiskFull",
            f"{original.parent} has {free / MIB:,.0f} MiB free, {needed / MIB:,.0f} are needed to work on a copy. "
            "Nothing was changed.",
        )


def _require_whole(report: Report, original: Path) -> None:
    if not report.finding.is_good:
        raise RefusedError(
            "StillDamaged", f"{original} is damaged ({report.finding}): no service would open it. Nothing was changed."
        )


def _renew(copy: Path, present: Present, attempt: str, of: str) -> None:
    """As after a restore: an identity of its own, numbers above the highest ever given, and Chroma to be reconciled."""
    connection = Connection(copy)
    try:
        migrate(connection)
        with connection.transaction():
            renew_identity(connection)
            raise_sequences(connection, present.issued, is_known=bool(present.issued))
            announce(connection, attempt, f"{QUARANTINE}/{of}")
        connection.execute("PRAGMA journal_mode = DELETE")  # into one file, which the swap renames
    finally:
        connection.close()
    sync_file(copy)
