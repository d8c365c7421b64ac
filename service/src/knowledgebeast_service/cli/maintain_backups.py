"""`knowledgebeast maintain backup`, `backups`, `fetch-backup`, `drill`."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from knowledgebeast_service.cli.maintain import AttemptId, DataDir, report
from knowledgebeast_service.maintenance.backups.catalogue import Expected, Verdict, judge_all
from knowledgebeast_service.maintenance.backups.create import NICENESS
from knowledgebeast_service.maintenance.backups.create import TASK as BACKUP
from knowledgebeast_service.maintenance.backups.create import backup as run_backup
from knowledgebeast_service.maintenance.backups.drill import TASK as DRILL
from knowledgebeast_service.maintenance.backups.drill import drill as run_drill
from knowledgebeast_service.maintenance.backups.remote import RemoteError, RemoteSets, RemoteSettings
from knowledgebeast_service.maintenance.backups.retention import Retention
from knowledgebeast_service.storage.volume import read_identity

T = TypeVar("T")
BackupDir = Annotated[
    Path | None, typer.Option(envvar="BACKUP_DIR", help="Folder of the backups; unset = DATA_DIR/backups.")
]

BACKUP_HELP = (
    "Back the database up beside the running service: copy, verify in full, then remove what is too old. "
    "Prints the set's id, checksum and counts as JSON.\n\n"
    "Example: knowledgebeast maintain backup --data-dir /data --backup-dir /backups --attempt-id hourly-7"
)
BACKUPS_HELP = (
    "List the backups, newest first, each read and checked in full.\n\n"
    "Example: knowledgebeast maintain backups --data-dir /data --backup-dir /backups"
)
FETCH_HELP = (
    "Bring a backup from object storage (BACKUP_S3_…) onto the backup volume, and check it in full.\n\n"
    "Example: knowledgebeast maintain fetch-backup --backup-dir /backups --backup 20300102T030405Z-678"
)
DRILL_HELP = (
    "Rehearse a restore: put the newest good backup into a scratch folder, open it, check it, take the time. "
    "Touches neither the database nor the backups.\n\n"
    "Example: knowledgebeast maintain drill --data-dir /data --backup-dir /backups --attempt-id weekly-3"
)


def backup(
    attempt_id: AttemptId,
    data_dir: DataDir = Path("data"),
    backup_dir: BackupDir = None,
    keep_days: Annotated[float, typer.Option(min=0, help="Days for which every backup is kept.")] = 7,
    keep_daily_days: Annotated[float, typer.Option(min=0, help="Days for which one backup a day is kept.")] = 30,
) -> None:
    os.nice(NICENESS)
    folder = backup_folder(data_dir, backup_dir)
    retention = Retention(keep_days, keep_daily_days)
    database = data_dir / "knowledgebeast.db"
    report(
        data_dir,
        BACKUP,
        attempt_id,
        lambda: run_backup(database, folder, attempt_id, retention, RemoteSettings()),
        only_success=True,
    )


def backups(
    data_dir: DataDir = Path("data"),
    backup_dir: BackupDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    remote: Annotated[bool, typer.Option(help="Those in object storage (BACKUP_S3_…), by manifest alone.")] = False,
) -> None:
    if remote:
        verdicts = [Verdict(one.id, Path(), one, ok=True) for one in _remote(lambda: _sets().manifests())]
        typer.echo(json.dumps([_shown(one) for one in verdicts])) if as_json else Console().print(_table(verdicts))
        return
    verdicts = judge_all(backup_folder(data_dir, backup_dir), Expected.of(read_identity(data_dir)))
    if as_json:
        typer.echo(json.dumps([_shown(one) for one in verdicts]))
    else:
        Console().print(_table(verdicts))


def fetch_backup(
    backup_id: Annotated[str, typer.Option("--backup", help="Id of the set, as listed by --remote.")],
    data_dir: DataDir = Path("data"),
    backup_dir: BackupDir = None,
) -> None:
    folder = backup_folder(data_dir, backup_dir)
    typer.echo(str(_remote(lambda: _sets().fetch(backup_id, folder))))


def drill(
    attempt_id: AttemptId,
    data_dir: DataDir = Path("data"),
    backup_dir: BackupDir = None,
    scratch_dir: Annotated[
        Path | None, typer.Option(help="Where to restore to; unset = the folder for temporary files.")
    ] = None,
) -> None:
    os.nice(NICENESS)
    folder = backup_folder(data_dir, backup_dir)
    scratch = scratch_dir or Path(tempfile.gettempdir())
    expected = Expected.of(read_identity(data_dir))
    report(data_dir, DRILL, attempt_id, lambda: run_drill(folder, scratch, attempt_id, expected), only_success=True)


def backup_folder(data_dir: Path, backup_dir: Path | None) -> Path:
    """The folder of the backups; warns when it lies on the volume that it is to outlive."""
    if backup_dir is not None:
        return backup_dir
    folder = data_dir / "backups"
    typer.echo(f"warning: backups in {folder} are lost with the database's disk; set BACKUP_DIR", err=True)
    return folder


def _sets() -> RemoteSets:
    return RemoteSets(RemoteSettings())


def _remote(work: Callable[[], T]) -> T:
    try:
        return work()
    except RemoteError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


def _shown(verdict: Verdict) -> dict[str, object]:
    manifest = verdict.manifest
    row: dict[str, object] = {
        "id": verdict.id,
        "ok": verdict.ok,
        "reason": verdict.reason,
        "message": verdict.message,
    }
    if manifest is None:
        return row
    return row | {
        "created_at": manifest.created_at.isoformat(),
        "seq": manifest.seq,
        "documents": manifest.counts.get("documents"),
        "bytes": manifest.size_bytes,
    }


def _table(verdicts: list[Verdict]) -> Table:
    table = Table("backup", "verdict", "documents", "bytes", "change")
    for one in verdicts:
        said = one.manifest
        numbers = (
            (f"{said.counts.get('documents', 0):,}", f"{said.size_bytes:,}", f"{said.seq:,}") if said else ("", "", "")
        )
        table.add_row(one.id, "good" if one.ok else f"{one.reason}: {one.message}", *numbers)
    return table
