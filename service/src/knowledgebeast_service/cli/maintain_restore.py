"""`knowledgebeast maintain reindex | restore | put-back | salvage | merge | assess-loss`: bring a database back."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import apsw
import typer

from knowledgebeast_service.cli.maintain import AttemptId, DataDir, report, volume_owner
from knowledgebeast_service.cli.maintain_backups import BackupDir, backup_folder
from knowledgebeast_service.cli.maintain_collections import maintain
from knowledgebeast_service.maintenance.backups.remote import RemoteSettings
from knowledgebeast_service.maintenance.restore.base import with_base
from knowledgebeast_service.maintenance.restore.by_hand import assess_loss as run_assess_loss
from knowledgebeast_service.maintenance.restore.by_hand import merge_recovery, write_salvage
from knowledgebeast_service.maintenance.restore.put_back import TASK as PUT_BACK
from knowledgebeast_service.maintenance.restore.put_back import put_back as run_put_back
from knowledgebeast_service.maintenance.restore.reindex import TASK as REINDEX
from knowledgebeast_service.maintenance.restore.reindex import reindex as run_reindex
from knowledgebeast_service.maintenance.restore.restore import TASK as RESTORE
from knowledgebeast_service.maintenance.restore.restore import Wanted
from knowledgebeast_service.maintenance.restore.restore import restore as run_restore
from knowledgebeast_service.maintenance.result import TaskResult

__all__ = ["maintain"]


@maintain.command(
    help="Make damaged indexes anew from the tables, in a copy. Needs every service stopped.\n\n"
    "Example: knowledgebeast maintain reindex --data-dir data --attempt-id fix-1"
)
def reindex(attempt_id: AttemptId, data_dir: DataDir = Path("data")) -> None:
    progress = Talk(REINDEX)
    run = lambda: run_reindex(data_dir / "knowledgebeast.db", attempt_id, progress)  # noqa: E731
    report(data_dir, REINDEX, attempt_id, run, only_success=True)


@maintain.command(
    help="Put the newest good backup in the place of a damaged database, with everything newer that can be had, and "
    "say what was lost. Backs the result up at once. Needs every service stopped; can be killed at any time and run "
    "again under its id.\n\n"
    "Example: knowledgebeast maintain restore --data-dir data --attempt-id fix-1\n\n"
    "Example: knowledgebeast maintain restore --backup latest --only-backup --attempt-id back-1"
)
def restore(
    attempt_id: AttemptId,
    data_dir: DataDir = Path("data"),
    backup_dir: BackupDir = None,
    backup: Annotated[
        str | None,
        typer.Option(help="A set's id, or 'latest'; restores a good database, too. Unset = the newest good one."),
    ] = None,
    only_backup: Annotated[
        bool, typer.Option("--only-backup", help="Merge nothing newer: go back to the moment of the backup.")
    ] = False,
    approve_loss: Annotated[
        bool, typer.Option("--approve-loss", help="Go on where more than an hour of writes may be lost.")
    ] = False,
    new_volume: Annotated[
        bool, typer.Option("--new-volume", help="The data folder is new: take a backup of any volume.")
    ] = False,
    from_remote: Annotated[
        bool,
        typer.Option("--from-remote", help="First bring the set from object storage (BACKUP_S3_…) to --backup-dir."),
    ] = False,
    own_backup_dir: Annotated[
        Path | None,
        typer.Option(help="Where the restored database is backed up at once; unset = where the backup came from."),
    ] = None,
    since: Annotated[float | None, typer.Option(help="Unix time at which the incident began, for the RTO.")] = None,
    lock_wait_seconds: Annotated[float, typer.Option(min=0, help="How long to wait for others to end.")] = 30,
) -> None:
    wanted = Wanted(
        attempt=attempt_id,
        backup=backup,
        only_backup=only_backup,
        approve_loss=approve_loss,
        new_volume=new_volume,
        owner=volume_owner(),
        since=since,
        lock_wait_seconds=lock_wait_seconds,
        remote=RemoteSettings() if from_remote else None,
    )
    progress = Talk(RESTORE)
    database, backups = data_dir / "knowledgebeast.db", backup_folder(data_dir, backup_dir)
    own = backups if own_backup_dir is None else own_backup_dir

    def run() -> TaskResult:
        return with_base(run_restore(database, backups, wanted, progress), database, own, progress)

    report(data_dir, RESTORE, attempt_id, run, only_success=True)


@maintain.command(
    name=PUT_BACK,
    help="Take a repair back: the database that it put into quarantine takes its place again, if it is whole, and the "
    "present one goes to quarantine. Backs the result up at once. Needs every service stopped; can be killed at any "
    "time and run again under its id.\n\n"
    "Example: knowledgebeast maintain put-back --of fix-1 --attempt-id undo-1",
)
def put_back(
    attempt_id: AttemptId,
    of: Annotated[str, typer.Option(help="The attempt that put it there: a folder in quarantine.")],
    data_dir: DataDir = Path("data"),
    backup_dir: BackupDir = None,
    approve_loss: Annotated[
        bool, typer.Option("--approve-loss", help="Go on where documents were written since the repair.")
    ] = False,
    lock_wait_seconds: Annotated[float, typer.Option(min=0, help="How long to wait for others to end.")] = 30,
) -> None:
    progress = Talk(PUT_BACK)
    database, backups = data_dir / "knowledgebeast.db", backup_folder(data_dir, backup_dir)

    def run() -> TaskResult:
        done = run_put_back(
            database, of, attempt_id, progress, approve_loss=approve_loss, lock_wait_seconds=lock_wait_seconds
        )
        return with_base(done, database, backups, progress)

    report(data_dir, PUT_BACK, attempt_id, run, only_success=True)


@maintain.command(
    help="Write what can be read and proved of a damaged database's newer changes to a file. Changes nothing else.\n\n"
    "Example: knowledgebeast maintain salvage --database data/quarantine/fix-1/knowledgebeast.db --out recovery.jsonl"
)
def salvage(
    database: Annotated[Path, typer.Option(help="The damaged file; its -wal is read where it lies beside it.")],
    out: Annotated[Path, typer.Option(help="File to write: one change a line.")],
    after_seq: Annotated[int, typer.Option(min=0, help="Number of the last change that is had already.")] = 0,
) -> None:
    try:
        typer.echo(json.dumps(write_salvage(database, out, after_seq)))
    except OSError as error:
        typer.echo(f"not written: {error}", err=True)
        raise typer.Exit(1) from error


@maintain.command(
    help="Make a new database from a backup's and the changes that `salvage` has written. Changes neither.\n\n"
    "Example: knowledgebeast maintain merge --backup old.db --recovery recovery.jsonl --output new.db"
)
def merge(
    backup: Annotated[Path, typer.Option(help="A whole database.")],
    recovery: Annotated[Path, typer.Option(help="What `maintain salvage` has written.")],
    output: Annotated[Path, typer.Option(help="The new file; must not exist.")],
) -> None:
    try:
        typer.echo(json.dumps(merge_recovery(backup, recovery, output)))
    except (OSError, ValueError, apsw.Error) as error:
        typer.echo(f"not merged: {error}", err=True)
        raise typer.Exit(1) from error


@maintain.command(
    name="assess-loss",
    help="Say what a restore of the newest good backup would lose now. Changes nothing.\n\n"
    "Example: knowledgebeast maintain assess-loss --data-dir data",
)
def assess_loss(
    data_dir: DataDir = Path("data"),
    backup_dir: BackupDir = None,
    backup: Annotated[str | None, typer.Option(help="A set's id; unset = the newest good one.")] = None,
) -> None:
    result = run_assess_loss(data_dir / "knowledgebeast.db", backup_folder(data_dir, backup_dir), backup)
    typer.echo(json.dumps({key: value for key, value in asdict(result).items() if value is not None}))
    raise typer.Exit(0 if result.ok else 1)


class Talk:
    """Says on standard error what is being done, with the time since the start."""

    def __init__(self, task: str) -> None:
        self._task = task
        self._started = time.monotonic()

    def __call__(self, step: str) -> None:
        typer.echo(f"{time.monotonic() - self._started:7.2f} s  {self._task}: {step}", err=True)
