"""5C: temporary files older than a day, in the folders for them and nowhere else."""

from pathlib import Path

from knowledgebeast_service.maintenance.cleaning.old_files import old_files
from knowledgebeast_service.maintenance.cleaning.sweep import Sweep
from knowledgebeast_service.maintenance.restore.marker import SCRATCH
from knowledgebeast_service.maintenance.running import oldest_start

FOLDERS = ("temp", "tmp", SCRATCH)
DAY_SECONDS = 86_400.0


def clean_temporary(volume: Path, data_dir: Path, now: float, sweep: Sweep) -> None:
    """Those of a task that still runs, or will go on, are younger than its start."""
    before = min(now - DAY_SECONDS, oldest_start(data_dir) or now)
    for folder in FOLDERS:
        for file in old_files(volume / folder, volume, before):
            sweep.take("temporary", file.path, file.bytes, file.remove)
