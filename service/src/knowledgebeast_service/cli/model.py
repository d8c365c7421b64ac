"""`knowledgebeast build-model`: the model folder from the pinned weights."""

from pathlib import Path
from typing import Annotated

import typer

from knowledgebeast_service.embedding.manifest import HOW_TO_GET_ONE


def build_model(
    out: Annotated[Path | None, typer.Option(help="Folder to make; default: the user's cache.")] = None,
) -> None:
    try:
        from knowledgebeast_service.embedding.build.command import main as build
    except ImportError as error:
        typer.echo(f"the build tools are not installed ({error}): {HOW_TO_GET_ONE}", err=True)
        raise typer.Exit(1) from error
    build([] if out is None else ["--out", str(out)])
