"""`knowledgebeast maintain …-collection`: rebuild, partition and return the vectors of a project."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from knowledgebeast_service.cli.maintain import AttemptId, DataDir, maintain, report
from knowledgebeast_service.errors import StartupError
from knowledgebeast_service.maintenance.rebuild import MOST_PARTS, PARTITION, REBUILD, RETURN, Rebuild, rebuild
from knowledgebeast_service.maintenance.result import TaskResult
from knowledgebeast_service.search.chroma_embedded import EmbeddedChromaStore
from knowledgebeast_service.search.chroma_http import ChromaHttpStore
from knowledgebeast_service.search.placement import Collections
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.telemetry.metrics import Metrics

__all__ = ["maintain"]

ProjectName = Annotated[str, typer.Option("--project", "-p", help="Project whose vectors move.")]
ChromaUrl = Annotated[
    str | None,
    typer.Option(envvar="CHROMA_URL", help="Chroma server; unset = the embedded one, while no service runs."),
]


@maintain.command(
    name=REBUILD,
    help="Fill a new collection from the stored vectors, check it, and let it serve. Runs beside the service.\n\n"
    "Example: knowledgebeast maintain rebuild-collection --project demo --data-dir /data --attempt-id 2d-1",
)
def rebuild_collection(
    project: ProjectName, attempt_id: AttemptId, data_dir: DataDir = Path("data"), chroma_url: ChromaUrl = None
) -> None:
    _run(Rebuild(REBUILD, project, attempt_id), data_dir, chroma_url)


@maintain.command(
    name=PARTITION,
    help="The same, divided into several collections that are asked at the same time; 1 makes it whole again.\n\n"
    "Example: knowledgebeast maintain partition-collection --project demo --parts 4 --attempt-id 1b-1",
)
def partition_collection(
    project: ProjectName,
    attempt_id: AttemptId,
    parts: Annotated[int, typer.Option(min=1, max=MOST_PARTS, help="Number of collections.")],
    data_dir: DataDir = Path("data"),
    chroma_url: ChromaUrl = None,
) -> None:
    _run(Rebuild(PARTITION, project, attempt_id, parts), data_dir, chroma_url)


@maintain.command(
    name=RETURN,
    help="Go back to the collection that the last rebuild replaced, brought up to date first.\n\n"
    "Example: knowledgebeast maintain return-collection --project demo --attempt-id 1b-undo",
)
def return_collection(
    project: ProjectName, attempt_id: AttemptId, data_dir: DataDir = Path("data"), chroma_url: ChromaUrl = None
) -> None:
    _run(Rebuild(RETURN, project, attempt_id), data_dir, chroma_url)


def _run(wanted: Rebuild, data_dir: Path, chroma_url: str | None) -> None:
    # A failed attempt is run again under its id; only one that has succeeded is over.
    report(data_dir, wanted.task, wanted.attempt, lambda: _rebuild(wanted, data_dir, chroma_url), only_success=True)


def _rebuild(wanted: Rebuild, data_dir: Path, chroma_url: str | None) -> TaskResult:
    path = data_dir / "knowledgebeast.db"
    if not path.is_file():
        return TaskResult(wanted.task, wanted.attempt, ok=False, refused=f"there is no database at {path}")
    database = Database(path)
    try:
        database.open()
    except StartupError as error:
        return TaskResult(wanted.task, wanted.attempt, ok=False, refused=str(error))
    try:
        return asyncio.run(_with_store(database, wanted, data_dir, chroma_url))
    finally:
        database.close()


async def _with_store(database: Database, wanted: Rebuild, data_dir: Path, chroma_url: str | None) -> TaskResult:
    metrics = Metrics()
    store = ChromaHttpStore(chroma_url, metrics) if chroma_url else EmbeddedChromaStore(data_dir / "chroma", metrics)
    shown = 0

    def progress(done: int, of: int) -> None:
        nonlocal shown
        tenth = 10 * done // max(of, 1)
        if tenth > shown:
            shown = tenth
            typer.echo(f"{wanted.project}: {done} of {of} vectors are in the new collection", err=True)

    try:
        return await rebuild(database, Collections(store, database), wanted, progress)
    finally:
        await store.close()
