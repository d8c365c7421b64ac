"""`knowledgebeast maintain clean | vacuum`: make room on a volume."""

from pathlib import Path
from typing import Annotated

import typer

from knowledgebeast_service.cli.maintain import AttemptId, DataDir, report
from knowledgebeast_service.maintenance.backups.retention import Retention
from knowledgebeast_service.maintenance.cleaning.clean import DRY_RUN, KINDS, Kind, Wanted
from knowledgebeast_service.maintenance.cleaning.clean import TASK as CLEAN
from knowledgebeast_service.maintenance.cleaning.clean import clean as run_clean
from knowledgebeast_service.maintenance.vacuum import LOCK_WAIT_SECONDS
from knowledgebeast_service.maintenance.vacuum import TASK as VACUUM
from knowledgebeast_service.maintenance.vacuum import vacuum as run_vacuum

CLEAN_HELP = (
    "Make room on the volumes: temporary files older than a day, log files older than 7 days (compressed, and removed "
    "after 30), snapshots, quarantined files and results older than 30 days, and backups by their retention. Keeps the "
    "last 7 daily snapshots and, whatever its age, the newest good backup. Runs beside the service.\n\n"
    "Example: knowledgebeast maintain clean --data-dir /data --backup-dir /backups --attempt-id look-1 --dry-run"
)
VACUUM_HELP = (
    "Give back what the database no longer uses: when more than a quarter of it is unused and twice its size is free. "
    "Runs beside the service; searches go on, writes wait, or are refused when it takes long.\n\n"
    "Example: knowledgebeast maintain vacuum --data-dir /data --attempt-id sunday-1"
)


def clean(
    attempt_id: AttemptId,
    data_dir: DataDir = Path("data"),
    backup_dir: Annotated[
        Path | None, typer.Option(envvar="BACKUP_DIR", help="Folder of the backups; unset = none is touched.")
    ] = None,
    log_dir: Annotated[
        Path | None, typer.Option(envvar="LOG_DIR", help="Folder of log files, beside `logs` on each volume.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help=f"What to clean, may be given again: {', '.join(KINDS)}. Unset = all.")
    ] = None,
    keep_days: Annotated[float, typer.Option(min=0, help="Days for which every backup is kept.")] = 7,
    keep_daily_days: Annotated[float, typer.Option(min=0, help="Days for which one backup a day is kept.")] = 30,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    wanted = Wanted(
        data_dir=data_dir,
        backup_dir=backup_dir,
        log_dir=log_dir,
        kinds=_kinds(only),
        retention=Retention(keep_days, keep_daily_days),
        is_dry_run=dry_run,
    )
    report(data_dir, DRY_RUN if dry_run else CLEAN, attempt_id, lambda: run_clean(wanted, attempt_id))


def vacuum(
    attempt_id: AttemptId,
    data_dir: DataDir = Path("data"),
    lock_wait_seconds: Annotated[float, typer.Option(min=0, help="How long to wait for others to end.")] = (
        LOCK_WAIT_SECONDS
    ),
) -> None:
    database = data_dir / "knowledgebeast.db"
    report(data_dir, VACUUM, attempt_id, lambda: run_vacuum(database, attempt_id, lock_wait_seconds))


def _kinds(only: list[str] | None) -> tuple[Kind, ...]:
    unknown = set(only or ()) - set(KINDS)
    if unknown:
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: it must be one of {', '.join(KINDS)}")
    return tuple(kind for kind in KINDS if not only or kind in only)
