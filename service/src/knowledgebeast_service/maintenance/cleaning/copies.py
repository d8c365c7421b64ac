"""5B: snapshots, quarantined files, results of tasks, and backups, by their retention.

The newest backup that passes its full check always stays, whatever its age (`backups.prune`).
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import apsw

from knowledgebeast_service.errors import StartupError
from knowledgebeast_service.maintenance.backups.create import RefusedError, sets_lock
from knowledgebeast_service.maintenance.backups.manifest import sets_folder
from knowledgebeast_service.maintenance.backups.prune import leftovers, outdated_sets, prune_changes, remove_set
from knowledgebeast_service.maintenance.backups.retention import Retention
from knowledgebeast_service.maintenance.cleaning.old_files import allocated_bytes, is_own_folder, remove_entry
from knowledgebeast_service.maintenance.cleaning.sweep import Sweep
from knowledgebeast_service.maintenance.restore.marker import QUARANTINE, Marker
from knowledgebeast_service.maintenance.running import FOLDER as RESULTS
from knowledgebeast_service.maintenance.running import oldest_start
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.locks import VolumeLock
from knowledgebeast_service.storage.outbox import database_id

DAY_SECONDS = 86_400.0
REMOVE_AFTER_DAYS = 30
KEPT_DAILY = 7
SNAPSHOTS = "snapshots"
DAILY = "daily_"
RESULT = re.compile(r"\.(json|done)$")


def clean_copies(volume: Path, now: float, sweep: Sweep) -> None:
    """What lies on the volume itself."""
    before = now - REMOVE_AFTER_DAYS * DAY_SECONDS
    snapshots = _entries(volume / SNAPSHOTS, volume)
    daily = sorted((one for one in snapshots if one.name.startswith(DAILY)), key=_modified_at, reverse=True)
    others = [one for one in snapshots if not one.name.startswith(DAILY)]
    _take("snapshot", [*daily[KEPT_DAILY:], *_older(others, before)], sweep)
    marker = Marker.read(volume)
    quarantined = [one for one in _entries(volume / QUARANTINE, volume) if marker is None or one.name != marker.attempt]
    _take("quarantined", _older(quarantined, before), sweep)
    results = [one for one in _entries(volume / RESULTS, volume) if RESULT.search(one.name)]
    _take("result", _older(results, min(before, oldest_start(volume) or before)), sweep)


def clean_backups(backup_dir: Path, database: Path, retention: Retention, sweep: Sweep) -> None:
    """Sets and what killed runs left of them; a dry run says nothing of the shipped changes that go with the sets."""
    if not sets_folder(backup_dir).is_dir():
        return
    try:
        with sets_lock(backup_dir):
            _take("leftover", leftovers(backup_dir), sweep)
            for folder in outdated_sets(backup_dir, retention):
                sweep.take("backup", folder, allocated_bytes(folder), lambda folder=folder: remove_set(folder))
            if not sweep.is_dry_run:
                _prune_changes(backup_dir, database)
    except RefusedError as error:
        sweep.skip(backup_dir, str(error))
    except OSError as error:
        sweep.skip(backup_dir, f"{type(error).__name__}: {error}")


def _prune_changes(backup_dir: Path, database: Path) -> None:
    """Segments that no set needs. Without a database that says which ones are its own, all stay."""
    if not database.is_file():
        return
    lock = VolumeLock(database)
    try:
        lock.acquire(exclusive=False, wait_seconds=0)
    except StartupError:
        return  # it is being repaired: the next backup prunes them
    try:
        with suppress(apsw.Error):
            current = _identity(database)
            if current:
                prune_changes(backup_dir, current)
    finally:
        lock.release()


def _identity(database: Path) -> str:
    connection = Connection(database, read_only=True)
    try:
        return database_id(connection)
    finally:
        connection.close()


def _entries(folder: Path, volume: Path) -> list[Path]:
    """Files and folders in it that are on this file system, links left out."""
    device = volume.stat().st_dev
    if not is_own_folder(folder, device):
        return []
    return sorted(one for one in folder.iterdir() if not one.is_symlink() and one.lstat().st_dev == device)


def _older(paths: Iterable[Path], before: float) -> list[Path]:
    return [one for one in paths if _modified_at(one) < before]


def _take(kind: str, paths: Iterable[Path], sweep: Sweep) -> None:
    for path in paths:
        sweep.take(kind, path, allocated_bytes(path), lambda path=path: remove_entry(path))


def _modified_at(path: Path) -> float:
    return path.lstat().st_mtime
