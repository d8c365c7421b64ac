"""How far a database must have come, by what the backups and the shipped changes have of it."""

from pathlib import Path

from knowledgebeast_service.maintenance.backups.catalogue import set_folders
from knowledgebeast_service.maintenance.backups.manifest import read_manifest
from knowledgebeast_service.maintenance.restore.classify import Floor
from knowledgebeast_service.shipping.segments import FOLDER as CHANGES
from knowledgebeast_service.shipping.segments import segments


def floors_of(backup_dir: Path | None) -> list[Floor]:
    """By what they say of themselves; their content is not looked at."""
    if backup_dir is None:
        return []
    found: list[Floor] = []
    for folder in set_folders(backup_dir):
        try:
            manifest = read_manifest(folder)
        except (OSError, ValueError):
            continue
        found.append(Floor(manifest.database_id, manifest.seq, f"backup {manifest.id}"))
    changes = backup_dir / CHANGES
    for folder in changes.iterdir() if changes.is_dir() else ():
        last = max((one.last for one in segments(folder) if one.last is not None), default=0)
        found.append(Floor(folder.name, last, "what was shipped"))
    return found
