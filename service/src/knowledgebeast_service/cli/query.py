"""`knowledgebeast query`: search a project of a running service."""

import json
import os
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from knowledgebeast_service.api.ui.excerpt import Piece, passage
from knowledgebeast_service.cli.client import DEFAULT_URL, Json, Project, Url, call, connect

HELP = """Search a project.

Matching words are in colour on a terminal (NO_COLOR turns that off). The status is 0 when something was found, 3 when
nothing was, 1 when the service could not be asked.

Example: knowledgebeast query "how do I restore a backup" --project notes

Example: knowledgebeast query "invoice 2041" -p mail --mode keyword --json
"""
NOTHING_FOUND = 3


def query(
    text: Annotated[str, typer.Argument(help="What to look for.")],
    project: Project,
    url: Url = DEFAULT_URL,
    top_k: Annotated[int, typer.Option(min=1, max=100, help="Number of results.")] = 5,
    offset: Annotated[int, typer.Option(min=0, max=999, help="Results to leave out: the next page.")] = 0,
    mode: Annotated[str, typer.Option(help="hybrid, keyword or vector.")] = "hybrid",
    as_json: Json = False,
) -> None:
    parameters = {"q": text, "top_k": top_k, "offset": offset, "mode": mode}
    with connect(url) as client:
        content = call(client, "GET", f"/api/v1/query/{project}", parameters)
    if as_json:
        typer.echo(json.dumps(content, ensure_ascii=False))
    else:
        if content["degraded_mode"]:
            typer.secho(f"degraded: {content['degraded_reason']}", err=True, fg=_colour("yellow"))
        for rank, result in enumerate(content["results"], offset + 1):
            typer.echo(_shown(rank, result))
        if not content["results"]:
            typer.echo("nothing found: try other words, or --mode hybrid", err=True)
        elif content["next_offset"] is not None:
            typer.secho(f"more with --offset {content['next_offset']}", err=True, dim=True)
    raise typer.Exit(0 if content["results"] else NOTHING_FOUND)


def _shown(rank: int, result: dict[str, Any]) -> str:
    title = result["title"] or result["document_id"]
    name = "" if title == result["document_id"] else f"  {_styled(_printable(result['document_id']), dim=True)}"
    head = f"{rank:2}  {result['score']:.3f}  {_styled(_printable(title), bold=True)}{name}"
    return f"{head}\n           {_marked(passage(result['text'], _spans(result)).excerpt)}\n"


def _spans(result: dict[str, Any]) -> list[tuple[int, int]]:
    return [(int(start), int(end)) for start, end in result.get("highlights") or ()]


def _marked(pieces: Sequence[Piece]) -> str:
    return "".join(
        _styled(_printable(piece.text), fg=_colour("yellow"), bold=True) if piece.is_match else _printable(piece.text)
        for piece in pieces
    )


def _printable(text: str) -> str:
    """On one line, and without the control characters by which a document could write over the terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def _styled(text: str, **style: Any) -> str:
    return text if "NO_COLOR" in os.environ else typer.style(text, **style)


def _colour(name: str) -> str | None:
    return None if "NO_COLOR" in os.environ else name
