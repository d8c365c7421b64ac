"""A set from object storage into a folder of backups, for a restore that finds none, or none good enough, there."""

from pathlib import Path

from knowledgebeast_service.maintenance.backups.manifest import Manifest
from knowledgebeast_service.maintenance.backups.remote import BadCopyError, RemoteError, RemoteSets, RemoteSettings
from knowledgebeast_service.maintenance.restore.choose import LATEST, SHOWN
from knowledgebeast_service.maintenance.restore.fenced import RefusedError
from knowledgebeast_service.storage.durable import make_folder
from knowledgebeast_service.storage.filesystem import free_bytes

MIB = 1024 * 1024

Skipped = tuple[dict[str, str], ...]
"""Sets that were passed over: id, reason, message."""


def fetch(settings: RemoteSettings, backup_dir: Path, wanted: str | None) -> Skipped:
    """Bring the set that is named, or the newest that is good, into `backup_dir`, checked in full.

    Returns the newer ones that were not good. A storage that stops answering is no reason to take an older one.

    Raises:
        RefusedError: RemoteUnavailable, UnknownBackup, NoVerifiedBackup with the reason of every set, or DiskFull.
        OSError: the folder refuses.
    """
    try:
        sets = RemoteSets(settings)
        return _first_good(sets, _asked_for(sets.manifests(), wanted, settings.location), backup_dir, settings.location)
    except RemoteError as error:
        raise RefusedError(
            "RemoteUnavailable", f"{settings.location} cannot be read: {error}. Nothing was changed."
        ) from error


def _asked_for(found: list[Manifest], wanted: str | None, location: str) -> list[Manifest]:
    if wanted in (None, LATEST):
        return found
    named = [one for one in found if one.id == wanted]
    if not named:
        known = ", ".join(one.id for one in found[:5]) or "none"
        raise RefusedError(
            "UnknownBackup", f"There is no set {wanted} in {location}; the newest are: {known}. Nothing was changed."
        )
    return named


def _first_good(sets: RemoteSets, candidates: list[Manifest], backup_dir: Path, location: str) -> Skipped:
    skipped: list[dict[str, str]] = []
    for one in candidates:
        _require_space(one, backup_dir)
        try:
            sets.fetch(one.id, backup_dir)
        except BadCopyError as error:
            skipped.append({"id": one.id, "reason": "BadCopy", "message": str(error)})
        else:
            return tuple(skipped)
    listed = "; ".join(one["message"] for one in skipped[:5]) or "there is none"
    raise RefusedError(
        "NoVerifiedBackup",
        f"No set in {location} can be used ({listed}). Nothing was changed.",
        {"skipped": skipped[:SHOWN], "skipped_total": len(skipped)},
    )


def _require_space(manifest: Manifest, backup_dir: Path) -> None:
    make_folder(backup_dir)
    free = free_bytes(backup_dir)
    if free < manifest.size_bytes + MIB:
        raise RefusedError(
            "DiskFull",
            f"{manifest.id} has {manifest.size_bytes / MIB:,.0f} MiB, {backup_dir} has {free / MIB:,.0f} MiB free. "
            "Nothing was changed. Ask for a larger volume.",
        )
