"""`maintain backup`: copy, verify, describe, publish, prune. Runs beside the service, under the shared volume lock.

Until the last rename a set has a hidden name, so a kill at any instant leaves either no set or a whole one; what is
left of it goes with the next run. The manifest comes after the database that it describes is on disk and checked.
"""

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import apsw

from knowledgebeast_service.errors import StartupError
from knowledgebeast_service.maintenance.backups.copying import Log, LogTooLongError, copy_database
from knowledgebeast_service.maintenance.backups.manifest import (
    DATABASE,
    MANIFEST,
    PARTIAL,
    Manifest,
    set_id,
    sets_folder,
    sha256_of,
)
from knowledgebeast_service.maintenance.backups.prune import manifests, prune_changes, prune_sets, remove_leftovers
from knowledgebeast_service.maintenance.backups.remote import RemoteSettings, copy_to_remote
from knowledgebeast_service.maintenance.backups.retention import Retention
from knowledgebeast_service.maintenance.backups.verify import Contents, Problem, verify_database
from knowledgebeast_service.maintenance.result import TaskResult
from knowledgebeast_service.storage.durable import make_folder, publish, write_file
from knowledgebeast_service.storage.filesystem import free_bytes
from knowledgebeast_service.storage.locks import VolumeLock
from knowledgebeast_service.storage.volume import VolumeIdentity, read_identity

TASK = "backup"
LOCK_WAIT_SECONDS = 30.0
MARGIN_BYTES = 16 * 1024 * 1024
NICENESS = 19  # searches come first


@dataclass(frozen=True)
class Refusal:
    """Why nothing was done, in a word and in a sentence."""

    reason: str
    message: str


class RefusedError(Exception):
    """Carries a refusal out of the steps; never leaves this package."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.refusal = Refusal(reason, message)


def backup(
    database: Path, backup_dir: Path, attempt: str, retention: Retention, remote: RemoteSettings | None = None
) -> TaskResult:
    """Make a verified set, or say why not. The same attempt makes no second one.

    A copy to object storage that fails is said in `measured`: the set on the volume is good all the same.
    """
    started = time.monotonic()
    try:
        with sets_lock(backup_dir):
            remove_leftovers(backup_dir)
            manifest, log = _made_before(backup_dir, attempt), None
            if manifest is None:
                with _shared(database):
                    manifest, log = _make(database, backup_dir, attempt, retention)
            pruned = prune_sets(backup_dir, retention)
            prune_changes(backup_dir, manifest.database_id)
            copied = _copied_to(remote, sets_folder(backup_dir) / manifest.id, retention)
    except RefusedError as error:
        refusal = error.refusal
        return TaskResult(TASK, attempt, ok=False, refused=refusal.message, reason=refusal.reason)
    except OSError as error:
        reason = "DiskFull" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "Io"
        return TaskResult(TASK, attempt, ok=False, refused=f"{type(error).__name__}: {error}", reason=reason)
    measured = _measured(manifest, log) | copied | {"pruned": pruned, "seconds": round(time.monotonic() - started, 3)}
    return TaskResult(TASK, attempt, ok=True, measured=measured)


@contextmanager
def sets_lock(backup_dir: Path) -> Generator[None]:
    """Alone among those who make or remove sets; a killed holder is no longer one."""
    make_folder(sets_folder(backup_dir))
    descriptor = os.open(sets_folder(backup_dir) / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RefusedError("InProgress", "another backup is being made; try again when it has ended") from error
        yield
    finally:
        os.close(descriptor)


def _copied_to(remote: RemoteSettings | None, folder: Path, retention: Retention) -> dict[str, object]:
    if remote is None or remote.bucket is None:
        return {}
    return {"remote": copy_to_remote(folder, remote, retention)}


def _made_before(backup_dir: Path, attempt: str) -> Manifest | None:
    """The set of a run of this attempt that was killed after it had published it."""
    return next((one for one in manifests(backup_dir) if one.attempt == attempt), None)


def _make(database: Path, backup_dir: Path, attempt: str, retention: Retention) -> tuple[Manifest, Log]:
    identity = _identity(database)
    _require_space(database, backup_dir, retention)
    previous = next(iter(manifests(backup_dir)), None)
    partial = sets_folder(backup_dir) / f"{PARTIAL}{attempt}"
    make_folder(partial)
    try:
        created_at = _free_second(backup_dir)
        log = _copied(database, partial / DATABASE)
        contents = _verified(partial / DATABASE, previous)
        manifest = _described(partial / DATABASE, identity, attempt, created_at, contents)
        write_file(partial / MANIFEST, manifest.encoded())
        publish(partial, sets_folder(backup_dir) / manifest.id)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return manifest, log


def _free_second(backup_dir: Path) -> datetime:
    """Now; waits for the end of a second that has a set already, for two of a name would be one."""
    while True:
        now = datetime.now(UTC)
        if not any(sets_folder(backup_dir).glob(f"{set_id(now, 0).partition('-')[0]}-*")):
            return now
        time.sleep(1 - now.microsecond / 1e6)


def _identity(database: Path) -> VolumeIdentity:
    identity = read_identity(database.parent)
    if identity is None:
        raise RefusedError("WrongVolume", f"{database.parent} has no volume.json: this is not the volume of a database")
    return identity


@contextmanager
def _shared(database: Path) -> Generator[None]:
    if not database.is_file():
        raise RefusedError("NoDatabase", f"there is no database at {database}")
    lock = VolumeLock(database)
    try:
        lock.acquire(exclusive=False, wait_seconds=LOCK_WAIT_SECONDS)
    except StartupError as error:
        raise RefusedError("InProgress", str(error)) from error
    try:
        yield
    finally:
        lock.release()


def _require_space(database: Path, backup_dir: Path, retention: Retention) -> None:
    """Refuse rather than fill the volume, on which the changes are shipped, too."""
    needed = database.stat().st_size + MARGIN_BYTES
    if free_bytes(backup_dir) < needed:
        prune_sets(backup_dir, retention)
    free = free_bytes(backup_dir)
    if free < needed:
        raise RefusedError(
            "DiskFull",
            f"a backup needs {needed:,} bytes, {backup_dir} has {free:,} free: grow the volume, or keep backups for "
            f"fewer days than {retention.keep_days:g} and {retention.keep_daily_days:g}",
        )


def _copied(source: Path, target: Path) -> Log:
    try:
        return copy_database(source, target)
    except LogTooLongError as error:
        raise RefusedError("LogGrowth", str(error)) from error
    except apsw.FullError as error:
        raise RefusedError("DiskFull", f"the volume of backups ran full: {error}") from error
    except apsw.Error as error:
        raise RefusedError("Unreadable", f"the database cannot be copied: {type(error).__name__}: {error}") from error


def _verified(copy: Path, previous: Manifest | None) -> Contents:
    contents, problem = verify_database(copy)
    if contents is not None and problem is None and previous is not None:
        problem = implausible(contents, previous)
    if contents is None or problem is not None:
        problem = problem or Problem("Damaged", "it cannot be read")
        raise RefusedError(problem.reason, f"the copy is not good, and not kept: {problem.message}")
    return contents


def implausible(contents: Contents, previous: Manifest) -> Problem | None:
    """What cannot have become of the database since its previous backup."""
    if contents.database_id != previous.database_id:
        return None
    if contents.seq < previous.seq:
        return Problem(
            "WrongCounts",
            f"it has {contents.seq:,} changes, {previous.seq - contents.seq:,} fewer than the backup {previous.id}: "
            "the database went back in time",
        )
    for table in ("documents", "chunks"):
        added = contents.issued.get(table, 0) - previous.issued.get(table, 0)
        most = previous.counts.get(table, 0) + added
        if contents.counts[table] > most:
            return Problem("WrongCounts", f"{contents.counts[table]:,} {table}; {most:,} are the most there can be")
    return None


def _described(
    copy: Path, identity: VolumeIdentity, attempt: str, created_at: datetime, contents: Contents
) -> Manifest:
    return Manifest(
        id=set_id(created_at, contents.seq),
        attempt=attempt,
        created_at=created_at,
        volume_id=identity.volume_id,
        owner=identity.owner,
        database_id=contents.database_id,
        schema_version=contents.schema_version,
        seq=contents.seq,
        issued=contents.issued,
        counts=contents.counts,
        size_bytes=copy.stat().st_size,
        sha256=sha256_of(copy),
    )


def _measured(manifest: Manifest, log: Log | None) -> dict[str, object]:
    measured: dict[str, object] = {
        "backup_id": manifest.id,
        "created_at": manifest.created_at.isoformat(),
        "sha256": manifest.sha256,
        "bytes": manifest.size_bytes,
        "seq": manifest.seq,
        "schema": manifest.schema_version,
        **_rows(manifest.counts),
    }
    return measured if log is None else measured | {"log_bytes_before": log.before, "log_bytes_peak": log.peak}


def _rows(counts: Mapping[str, int]) -> dict[str, object]:
    return {table: counts[table] for table in ("documents", "chunks") if table in counts}
