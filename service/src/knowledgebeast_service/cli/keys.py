"""`knowledgebeast keys`: make keys. Nothing is stored and no service is asked."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, cast

import typer
from pydantic import ValidationError

from knowledgebeast_service.api.keys import SCOPES, Scope, new_key, utc_now

keys = typer.Typer(help="API keys.", no_args_is_help=True)


@keys.callback()
def group() -> None:
    """API keys."""  # without a callback, typer makes a group of one command into that command


@keys.command(
    help="Make a key. It is printed once and kept nowhere; its entry goes into API_KEYS_FILE (a JSON list).\n\n"
    "Example: knowledgebeast keys new --scope read --project notes --days 90"
)
def new(
    scope: Annotated[list[str], typer.Option(help="read, write or admin; give it again for more.")],
    project: Annotated[
        list[str], typer.Option("--project", "-p", help="A project, or '*' for all; give it again for more.")
    ],
    key_id: Annotated[str | None, typer.Option("--id", help="Name in the log and in errors; default: made up.")] = None,
    days: Annotated[int | None, typer.Option(min=1, max=3650, help="Expires after so many days.")] = None,
) -> None:
    unknown = [one for one in scope if one not in SCOPES]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: a scope is one of {', '.join(SCOPES)}")
    now = utc_now()
    name = key_id or f"key-{now:%Y%m%d-%H%M%S}"
    not_after = None if days is None else (datetime.now(UTC) + timedelta(days=days)).replace(microsecond=0)
    try:
        key, entry = new_key(name, cast("list[Scope]", scope), project, not_after)
    except ValidationError as error:
        raise typer.BadParameter("; ".join(f"{one['loc'][0]}: {one['msg']}" for one in error.errors())) from error
    typer.echo(f"key:   {key}")
    typer.echo(f"entry: {entry}")
