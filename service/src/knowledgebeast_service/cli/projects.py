"""`knowledgebeast projects`: what there is to search."""

import json
from typing import Any

import typer

from knowledgebeast_service.cli.client import DEFAULT_URL, Json, Url, call, connect

HELP = """List the projects with their counts.

Example: knowledgebeast projects

Example: knowledgebeast projects --json | jq -r '.[].name'
"""
PAGE = 1000


def projects(url: Url = DEFAULT_URL, as_json: Json = False) -> None:
    found: list[dict[str, Any]] = []
    cursor = ""
    with connect(url) as client:
        while True:
            content = call(client, "GET", "/api/v1/projects", {"limit": PAGE, "cursor": cursor})
            found += content["projects"]
            if not content["next_cursor"]:
                break
            cursor = content["next_cursor"]
    if as_json:
        typer.echo(json.dumps(found))
        return
    if not found:
        typer.echo("no project yet: `knowledgebeast ingest notes/*.md --project notes` makes one", err=True)
        return
    width = max(len("project"), *(len(one["name"]) for one in found))
    typer.echo(f"{'project':{width}}{'documents':>12}{'chunks':>12}")
    for one in found:
        typer.echo(f"{one['name']:{width}}{one['documents']:12,}{one['chunks']:12,}")
