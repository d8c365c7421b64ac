"""The sets on the backup volume, each with a verdict. Judging reads the whole set, and changes nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from knowledgebeast_service.maintenance.backups.manifest import PARTIAL, Manifest, sets_folder
from knowledgebeast_service.maintenance.backups.verify import Problem, Reason, verify_set
from knowledgebeast_service.storage.volume import FormerOwner, VolumeIdentity


@dataclass(frozen=True)
class Expected:
    """What a usable set must be of; None = anything."""

    volume_id: str | None = None
    database_id: str | None = None
    max_age_seconds: float | None = None
    owner: str | None = None
    former_owners: tuple[FormerOwner, ...] = ()

    @classmethod
    def of(cls, identity: VolumeIdentity | None) -> Self:
        """What can be restored onto this volume; anything, where it has no identity."""
        if identity is None:
            return cls()
        return cls(volume_id=identity.volume_id, owner=identity.owner, former_owners=identity.former_owners)

    def is_of_another(self, manifest: Manifest) -> bool:
        """What a former owner made while the volume was its own is this one's; a set from before sets had an owner
        is told by its volume alone.
        """
        if self.owner is None or manifest.owner in (None, self.owner):
            return False
        made_at = manifest.created_at.timestamp()
        return not any(one.owner == manifest.owner and made_at <= one.until for one in self.former_owners)


@dataclass(frozen=True)
class Verdict:
    """Of one set; `reason` (for programs) and `message` (for people) say why it is not good."""

    id: str
    path: Path
    manifest: Manifest | None
    ok: bool
    reason: Reason | None = None
    message: str | None = None


def judge_all(backup_dir: Path, expected: Expected | None = None) -> list[Verdict]:
    """All sets, newest first, checked in full."""
    return [judge(folder, expected) for folder in set_folders(backup_dir)]


def newest_good(backup_dir: Path, expected: Expected | None = None) -> Verdict | None:
    """The newest set that passes; older ones are not looked at."""
    return next((verdict for verdict in judged(backup_dir, expected) if verdict.ok), None)


def judged(backup_dir: Path, expected: Expected | None = None) -> Iterator[Verdict]:
    """`judge_all`, one set at a time."""
    return (judge(folder, expected) for folder in set_folders(backup_dir))


def judge(folder: Path, expected: Expected | None = None) -> Verdict:
    """One set."""
    if folder.name.startswith("."):
        return Verdict(folder.name, folder, None, ok=False, reason="InProgress", message="it was not finished")
    manifest, problem = verify_set(folder)
    if manifest is not None and problem is None:
        problem = _not_expected(manifest, expected or Expected())
    if problem is None:
        return Verdict(folder.name, folder, manifest, ok=True)
    return Verdict(folder.name, folder, manifest, ok=False, reason=problem.reason, message=problem.message)


def set_folders(backup_dir: Path) -> list[Path]:
    """Newest first by name, which begins with the time; unfinished ones last."""
    folder = sets_folder(backup_dir)
    found = [one for one in folder.iterdir() if one.is_dir()] if folder.is_dir() else []
    finished = sorted((one for one in found if not one.name.startswith(".")), key=lambda one: one.name, reverse=True)
    return finished + sorted(one for one in found if one.name.startswith(PARTIAL))


def _not_expected(manifest: Manifest, expected: Expected) -> Problem | None:
    if expected.is_of_another(manifest):
        return Problem("OtherObject", f"it is of {manifest.owner}, not of {expected.owner}")
    if expected.volume_id is not None and manifest.volume_id != expected.volume_id:
        return Problem("OtherVolume", f"it is of volume {manifest.volume_id}, not of {expected.volume_id}")
    if expected.database_id is not None and manifest.database_id != expected.database_id:
        return Problem("OtherVolume", f"it is of database {manifest.database_id}, not of {expected.database_id}")
    age = (datetime.now(UTC) - manifest.created_at).total_seconds()
    if expected.max_age_seconds is not None and age > expected.max_age_seconds:
        return Problem("Stale", f"it is {age:,.0f} s old, the limit is {expected.max_age_seconds:,.0f} s")
    return None
