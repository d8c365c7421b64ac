"""`maintain clean`: options C, A and B of incident 5 on one volume, in that order; runs beside everything else.

Every step removes one thing that nobody needs, so a run that is killed at any instant has done a part of the work, and
the next one does the rest. What is measured is the file system's own account, before and after.
"""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from knowledgebeast_service.maintenance.backups.retention import Retention
from knowledgebeast_service.maintenance.cleaning.copies import clean_backups, clean_copies
from knowledgebeast_service.maintenance.cleaning.logs import clean_logs
from knowledgebeast_service.maintenance.cleaning.sweep import Sweep
from knowledgebeast_service.maintenance.cleaning.temporary import clean_temporary
from knowledgebeast_service.maintenance.result import TaskResult
from knowledgebeast_service.storage.filesystem import free_bytes

TASK = "clean"
DRY_RUN = "clean-dry-run"
LOGS = "logs"

Kind = Literal["temporary", "logs", "copies"]
KINDS: tuple[Kind, ...] = ("temporary", "logs", "copies")


@dataclass(frozen=True)
class Wanted:
    """Where to look and what for. Without `backup_dir` no backup is touched.

    Logs are looked for in `logs` of each volume, and in `log_dir`.
    """

    data_dir: Path
    backup_dir: Path | None = None
    log_dir: Path | None = None
    kinds: tuple[Kind, ...] = KINDS
    retention: Retention = field(default_factory=Retention)
    is_dry_run: bool = False

    @property
    def volumes(self) -> dict[str, Path]:
        """Folders by the name that their figures get; a backup folder on the data's volume is measured with it."""
        volumes = {"data": self.data_dir}
        backups = self.backup_dir
        if backups is not None and backups.is_dir() and backups.stat().st_dev != self.data_dir.stat().st_dev:
            volumes["backups"] = backups
        return volumes


def clean(wanted: Wanted, attempt: str, now: float | None = None) -> TaskResult:
    """Do it, or with `is_dry_run` say what would go."""
    task = DRY_RUN if wanted.is_dry_run else TASK
    if not wanted.data_dir.is_dir():
        sentence = f"there is no folder {wanted.data_dir}: is the volume mounted?"
        return TaskResult(task, attempt, ok=False, refused=sentence, reason="NoVolume")
    started = time.monotonic()
    at = time.time() if now is None else now
    sweep = Sweep(is_dry_run=wanted.is_dry_run)
    before = {name: free_bytes(folder) for name, folder in wanted.volumes.items()}
    for folder in wanted.volumes.values():
        _clean_volume(folder, wanted, at, sweep)
    if "copies" in wanted.kinds and wanted.backup_dir is not None:
        clean_backups(wanted.backup_dir, wanted.data_dir / "knowledgebeast.db", wanted.retention, sweep)
    os.sync()  # what was removed is free on the disk, too, before it is measured
    after = {name: free_bytes(folder) for name, folder in wanted.volumes.items()}
    measured: dict[str, object] = {
        **{f"{name}_available_before": free for name, free in before.items()},
        **{f"{name}_available_after": free for name, free in after.items()},
        "freed_bytes": sum(after.values()) - sum(before.values()),
        **dict(sorted(sweep.counts.items())),
        "seconds": round(time.monotonic() - started, 3),
        "paths": sweep.paths,
        "skipped": sweep.skipped,
    }
    return TaskResult(task, attempt, ok=True, measured=measured)


def _clean_volume(folder: Path, wanted: Wanted, now: float, sweep: Sweep) -> None:
    if "temporary" in wanted.kinds:
        clean_temporary(folder, wanted.data_dir, now, sweep)
    if "logs" in wanted.kinds:
        clean_logs(folder / LOGS, folder, now, sweep)
        if folder == wanted.data_dir and wanted.log_dir is not None and wanted.log_dir.is_dir():
            clean_logs(wanted.log_dir, wanted.log_dir, now, sweep)
    if "copies" in wanted.kinds:
        clean_copies(folder, now, sweep)
