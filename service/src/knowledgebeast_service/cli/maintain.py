"""`knowledgebeast maintain …`: tasks on the data volume, one command each."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from knowledgebeast_service.maintenance.adopt import NotAdoptedError
from knowledgebeast_service.maintenance.adopt import adopt as run_adopt
from knowledgebeast_service.maintenance.check import TASK as CHECK
from knowledgebeast_service.maintenance.check import check as run_check
from knowledgebeast_service.maintenance.result import (
    TERMINATION_LOG,
    TaskResult,
    read_result,
    result_path,
    write_last_word,
    write_result,
)
from knowledgebeast_service.maintenance.running import announced
from knowledgebeast_service.storage.volume import owned_by_another

OWNER_VARIABLE = "VOLUME_OWNER"

maintain = typer.Typer(
    help="Tasks on the data volume; each leaves a result file there. Where VOLUME_OWNER is set, none touches the "
    "volume of another owner.",
    no_args_is_help=True,
)

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
) -> None:
    database = data_dir / "knowledgebeast.db"
    report(data_dir, CHECK, attempt_id, lambda: run_check(database, attempt_id, backup_dir))


@maintain.command(
    help="Make the volume of another owner this one's: after an object was renamed, or a volume was taken over. "
    "Refused while anybody uses it. Backups that the former owner made before stay usable.\n\n"
    "Example: knowledgebeast maintain adopt --data-dir /data --from search/old --owner search/new"
)
def adopt(
    former: Annotated[str, typer.Option("--from", help="Whose it is, as volume.json says.")],
    owner: Annotated[str, typer.Option(envvar=OWNER_VARIABLE, help="Whose it is to be.")],
    data_dir: DataDir = Path("data"),
) -> None:
    try:
        identity = run_adopt(data_dir / "knowledgebeast.db", owner, former)
    except NotAdoptedError as error:
        typer.echo(f"not adopted: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{data_dir} (volume {identity.volume_id}) is the volume of {identity.owner} now")


def volume_owner() -> str | None:
    """Whose the data volume must be, where anybody says so."""
    return os.environ.get(OWNER_VARIABLE) or None


def refuse_another_volume(data_dir: Path, task: str, attempt_id: str) -> None:
    """End with the refusal where the volume is another's. Not even the result is left there."""
    sentence = owned_by_another(data_dir, volume_owner())
    if sentence is None:
        return
    measured: dict[str, object] = {"damage": "wrong-volume", "problems": [sentence]}
    result = TaskResult(task, attempt_id, ok=False, measured=measured, refused=sentence, reason="WrongVolume")
    write_last_word(result, termination_log())
    typer.echo(result.to_json())
    raise typer.Exit(1)


def termination_log() -> Path:
    return Path(os.environ.get("TERMINATION_LOG") or TERMINATION_LOG)


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
    refuse_another_volume(data_dir, task, attempt_id)
    result = _kept(path)
    if result is None or (only_success and not result.ok):
        with announced(data_dir, task, attempt_id):
            result = run()
        try:
            write_result(path, result, termination_log())
        except OSError as error:  # a full disk, which the result may be about
            typer.echo(f"the result cannot be kept in {path}: {error}", err=True)
    typer.echo(result.to_json())
    raise typer.Exit(0 if result.ok else 1)


def _kept(path: Path) -> TaskResult | None:
    """The result of an earlier run; None, too, where the folder is not for us: the task says what is to be done."""
    try:
        return read_result(path)
    except PermissionError:
        return None
