"""`knowledgebeast ingest`: files and folders into a project, to be stopped and run again at any time."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from knowledgebeast_service.cli.client import DEFAULT_URL, Project, Url, connect
from knowledgebeast_service.cli.progress import progress_bars
from knowledgebeast_service.cli.sending import Counts, NoServiceError, Sender, find_files

REJECTED, FAILED, INTERRUPTED = 1, 3, 130
SHOWN_REJECTIONS = 50

INGEST_HELP = """Ingest files: text, Markdown, HTML, PDF. A folder means all files below it that are not hidden.

The path is the document's id, so that running the same command again replaces what has changed and passes over what has
not. Stop it with Ctrl-C whenever you like.

Exit status: 0 all are stored, 1 some were rejected (they are named), 2 wrong usage, 3 no answer from the service, 130
stopped.

Example: knowledgebeast ingest notes/*.md --project notes --wait

Example: knowledgebeast ingest ~/papers --project papers --jobs 8
"""


def ingest(
    paths: Annotated[list[Path], typer.Argument(help="Files, and folders of files.", exists=True)],
    project: Project,
    url: Url = DEFAULT_URL,
    wait: Annotated[bool, typer.Option(help="Wait until they are searchable by vector.")] = False,
    jobs: Annotated[int, typer.Option(min=1, max=32, help="Requests at the same time.")] = 4,
) -> None:
    files = find_files(paths)
    if not files:
        raise typer.BadParameter("there is no file", param_hint="PATHS")
    with connect(url) as client, progress_bars() as report:
        sender = Sender(client, project, jobs, report)
        try:
            sender.send(files)
            if wait:
                sender.wait()
        except KeyboardInterrupt:
            _end(sender.counts, len(files), INTERRUPTED, "Stopped")
        except NoServiceError as error:
            _end(sender.counts, len(files), FAILED, str(error))
    _end(sender.counts, len(files), REJECTED if sender.counts.rejected else 0, "Done")


def _end(counts: Counts, total: int, status: int, how: str) -> None:
    """Say what is done and how to go on."""
    for name, reason in list(counts.rejected.items())[:SHOWN_REJECTIONS]:
        typer.echo(f"rejected  {name}  {reason}", err=True)
    if len(counts.rejected) > SHOWN_REJECTIONS:
        typer.echo(f"… and {len(counts.rejected) - SHOWN_REJECTIONS:,} more", err=True)
    state = f", {counts.indexed:,} searchable by vector" if counts.indexed is not None else ""
    typer.echo(
        f"{how}: {counts.sent:,} of {total:,} files; {counts.stored:,} stored, {counts.unchanged:,} unchanged, "
        f"{len(counts.rejected):,} rejected{state}."
    )
    if counts.reason is not None:
        typer.echo(f"Found by keyword, not yet by vector: {counts.reason}", err=True)
    if status in (FAILED, INTERRUPTED):
        typer.echo("Run the same command again to go on: what is stored is passed over.", err=True)
    sys.stdout.flush()
    raise typer.Exit(status)
