"""Which backup: the newest that passes in full, or the one that was named."""

from dataclasses import dataclass
from pathlib import Path

from knowledgebeast_service.maintenance.backups.catalogue import Expected, Verdict, judge, judged, set_folders
from knowledgebeast_service.maintenance.backups.manifest import Manifest
from knowledgebeast_service.maintenance.restore.fenced import RefusedError

LATEST = "latest"
SHOWN = 50


@dataclass(frozen=True)
class Chosen:
    """A set that passed, and those that were newer and did not."""

    path: Path
    manifest: Manifest
    skipped: tuple[dict[str, str], ...]


def choose(backup_dir: Path, wanted: str | None, expected: Expected) -> Chosen:
    """The set to restore.

    Raises:
        RefusedError: UnknownBackup, or NoVerifiedBackup with the reason of every set.
    """
    verdicts = (
        judged(backup_dir, expected) if wanted in (None, LATEST) else iter([_named(backup_dir, wanted, expected)])
    )
    skipped: list[dict[str, str]] = []
    for verdict in verdicts:
        if verdict.ok and verdict.manifest is not None:
            return Chosen(verdict.path, verdict.manifest, tuple(skipped))
        skipped.append(_why(verdict))
    listed = "; ".join(f"{one['id']}: {one['message']}" for one in skipped[:5]) or f"there is none in {backup_dir}"
    raise RefusedError(
        "NoVerifiedBackup",
        f"No backup can be used ({listed}). Nothing was changed. Bring a good set into {backup_dir}/sets.",
        {"skipped": skipped[:SHOWN], "skipped_total": len(skipped)},
    )


def _named(backup_dir: Path, wanted: str | None, expected: Expected) -> Verdict:
    for folder in set_folders(backup_dir):
        if folder.name == wanted:
            return judge(folder, expected)
    known = ", ".join(folder.name for folder in set_folders(backup_dir)[:5]) or "none"
    raise RefusedError(
        "UnknownBackup", f"There is no backup {wanted} in {backup_dir}; the newest are: {known}. Nothing was changed."
    )


def _why(verdict: Verdict) -> dict[str, str]:
    return {"id": verdict.id, "reason": verdict.reason or "", "message": verdict.message or ""}
