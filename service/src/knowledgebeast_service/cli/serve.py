"""`knowledgebeast serve`: the service, with one option for every setting."""

import inspect
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, get_args

import typer
from pydantic import ValidationError
from pydantic_core import PydanticUndefined

from knowledgebeast_service.cli.welcome import welcome
from knowledgebeast_service.errors import StartupError
from knowledgebeast_service.settings import Settings

SERVE_HELP = """Serve the HTTP API and the search page.

With no option at all it runs complete on one machine: Chroma inside the process, data in ./data, the page at
http://127.0.0.1:8000/ui.

Example: knowledgebeast serve

Example: knowledgebeast serve --data-dir ~/kb --rate-limit-per-minute 0
"""


def serve(**flags: object) -> None:
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        settings = Settings(**given)  # pyright: ignore[reportArgumentType]
    except ValidationError as error:
        for one in error.errors():
            typer.echo(f"{'.'.join(map(str, one['loc']))}: {one['msg']}", err=True)
        raise typer.Exit(2) from error
    from knowledgebeast_service.server import serve as run  # the whole service; other commands do without

    def on_listening(port: int) -> None:
        if settings.chroma_url is None:
            typer.echo(welcome(settings.host, port, settings.data_dir), nl=False)

    try:
        run(settings, on_listening)
    except StartupError as error:
        typer.echo(f"cannot start: {error}", err=True)
        raise typer.Exit(1) from error


def _flags() -> list[inspect.Parameter]:
    """One option for every setting, with its description and its environment variable."""
    parameters: list[inspect.Parameter] = []
    for name, field in Settings.model_fields.items():
        default = "computed" if field.default is PydanticUndefined else field.default
        shown = "" if default is None else f" [default: {default}]"
        option = typer.Option(
            f"--{name.replace('_', '-')}", help=f"{field.description} (env {name.upper()}){shown}", show_default=False
        )
        kind = _plain_type(field.annotation)
        parameters.append(
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
            )
        )
    return parameters


def _plain_type(annotation: Any) -> Any:
    """The type that the command line parses: text where it is a choice, which the settings then check."""
    if isinstance(annotation, UnionType):
        annotation = next(one for one in get_args(annotation) if one is not type(None))
    return annotation if annotation in (int, float, bool, Path) else str


serve.__signature__ = inspect.Signature(_flags())  # pyright: ignore[reportFunctionMemberAccess]
