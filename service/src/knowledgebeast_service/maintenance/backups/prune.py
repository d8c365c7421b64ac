"""Removing what retention lets go, and what killed runs left behind. The caller holds the lock of the sets."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

from knowledgebeast_service.maintenance.backups.catalogue import newest_good, set_folders
from knowledgebeast_service.maintenance.backups.manifest import (
    DATABASE,
    PARTIAL,
    Manifest,
    read_manifest,
    sets_folder,
)
from knowledgebeast_service.maintenance.backups.retention import DatedSet, Retention, to_prune
from knowledgebeast_service.shipping.segments import FOLDER, segments
from knowledgebeast_service.storage.durable import publish, remove_tree, sync_folder

REMOVED = ".removed-"


def prune_sets(backup_dir: Path, retention: Retention) -> list[str]:
    """Remove old sets, each in one step from listed to gone; returns their ids."""
    going = outdated_sets(backup_dir, retention)
    for folder in going:
        remove_set(folder)
    return [folder.name for folder in going]


def outdated_sets(backup_dir: Path, retention: Retention) -> list[Path]:
    """The sets that retention lets go, oldest first.

    Nothing goes unless a set passes the full check, and that one stays. What decides about the others is whether their
    manifest and their size are right: reading them all each hour would take longer than the hour.
    """
    verified = newest_good(backup_dir)
    if verified is None:
        return []
    folders = {folder.name: folder for folder in set_folders(backup_dir) if not folder.name.startswith(".")}
    dated = [one for folder in folders.values() if (one := _dated(folder)) is not None]
    return [folders[name] for name in to_prune(dated, datetime.now(UTC), retention) if name != verified.id]


def remove_set(folder: Path) -> None:
    """A set must never be seen in part: it gets a name that nobody lists, then goes."""
    hidden = folder.with_name(f"{REMOVED}{folder.name}")
    remove_tree(hidden)
    publish(folder, hidden)
    remove_tree(hidden)


def remove_leftovers(backup_dir: Path) -> list[str]:
    """Remove what runs that were killed left behind; returns the names."""
    found = leftovers(backup_dir)
    for one in found:
        shutil.rmtree(one)
    if found:
        sync_folder(sets_folder(backup_dir))
    return sorted(one.name for one in found)


def leftovers(backup_dir: Path) -> list[Path]:
    """What runs that were killed left behind: sets that were being made, or removed."""
    folder = sets_folder(backup_dir)
    return [one for one in folder.iterdir() if one.name.startswith((PARTIAL, REMOVED))] if folder.is_dir() else []


def prune_changes(backup_dir: Path, current_database_id: str) -> list[str]:
    """Remove segments that no kept set needs: all of its changes are in the oldest one; returns their names.

    The newest segment stays, for the shipper goes on from it.
    """
    oldest: dict[str, int] = {}
    for manifest in manifests(backup_dir):
        oldest[manifest.database_id] = min(manifest.seq, oldest.get(manifest.database_id, manifest.seq))
    root = backup_dir / FOLDER
    removed: list[str] = []
    for folder in root.iterdir() if root.is_dir() and oldest else ():
        if not folder.is_dir():
            continue
        if folder.name not in oldest and folder.name != current_database_id:
            removed += [one.path.name for one in segments(folder)]
            remove_tree(folder)
            continue
        needed_after = oldest.get(folder.name, 0)
        old = [one for one in segments(folder)[:-1] if one.last is not None and one.last <= needed_after]
        for one in old:
            one.path.unlink(missing_ok=True)
        if old:
            sync_folder(folder)
        removed += [one.path.name for one in old]
    return removed


def manifests(backup_dir: Path) -> list[Manifest]:
    """Of the finished sets that have one, newest first; not checked further."""
    found: list[Manifest] = []
    for folder in set_folders(backup_dir):
        try:
            found.append(read_manifest(folder))
        except (OSError, ValueError):
            continue  # the catalogue says what is wrong with it
    return found


def _dated(folder: Path) -> DatedSet | None:
    """None for a folder whose age its name does not tell."""
    try:
        created_at = datetime.strptime(folder.name.partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None
    try:
        is_good = (folder / DATABASE).stat().st_size == read_manifest(folder).size_bytes
    except (OSError, ValueError):
        is_good = False
    return DatedSet(folder.name, created_at, is_good)
