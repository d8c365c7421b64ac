"""`knowledgebeast maintain …`: tasks on the data volume, one command each."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from knowledgebeast_service.maintenance.check import TASK as CHECK
from knowledgebeast_service.maintenance.check import check as run_check
from knowledgebeast_service.maintenance.result import TaskResult, read_result, result_path, write_result
from knowledgebeast_service.maintenance.running import announced

maintain = typer.Typer(help="Tasks on the data volume; each leaves a result file there.", no_args_is_help=True)

AttemptId = Annotated[str, typer.Option(help="The same id gives the same result again, without a second run.")]
DataDir = Annotated[Path, typer.Option(envvar="DATA_DIR", help="Folder of the database.")]


@maintain.command(
    help="Check the database: integrity, foreign keys, schema, counts. Runs beside the service.\n\n"
    "Example: knowledgebeast maintain check --data-dir /data --attempt-id nightly-7"
)
def check(
    attempt_id: AttemptId,
    data_dir: DataDir = Path("data"),
    backup_dir: Annotated[
        Path | None, typer.Option(envvar="BACKUP_DIR", help="Folder of backups: what they have must be there, too.")
    ] = None,
    volume_id: Annotated[
        str | None, typer.Option(envvar="VOLUME_ID", help="Identity that the volume must have (volume.json).")
    ] = None,
) -> None:
    database = data_dir / "knowledgebeast.db"
    report(data_dir, CHECK, attempt_id, lambda: run_check(database, attempt_id, backup_dir, volume_id))


def report(
    data_dir: Path, task: str, attempt_id: str, run: Callable[[], TaskResult], *, only_success: bool = False
) -> None:
    """Run the task unless its result is there, print the result, and end with 0 or 1.

    With `only_success` a result that is not ok is no end: the task is run again under its id.
    """
    try:
        path = result_path(data_dir, task, attempt_id)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    result = read_result(path)
    if result is None or (only_success and not result.ok):
        with announced(data_dir, task, attempt_id):
            result = run()
        try:
            write_result(path, result, Path(os.environ.get("TERMINATION_LOG", "/dev/termination-log")))
        except OSError as error:  # a full disk, which the result may be about
            typer.echo(f"the result cannot be kept in {path}: {error}", err=True)
    typer.echo(result.to_json())
    raise typer.Exit(0 if result.ok else 1)
