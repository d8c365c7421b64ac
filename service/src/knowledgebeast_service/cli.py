"""`knowledgebeast`: serve, ingest, query, maintain, build-model, version."""

import inspect
import os
import sys
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, get_args

import httpx
import typer
from pydantic import ValidationError
from pydantic_core import PydanticUndefined

from knowledgebeast_service import __version__
from knowledgebeast_service.errors import StartupError
from knowledgebeast_service.maintenance.check import TASK as CHECK
from knowledgebeast_service.maintenance.check import check as run_check
from knowledgebeast_service.maintenance.result import read_result, result_path, write_result
from knowledgebeast_service.settings import Settings

REQUEST_SECONDS = 120.0
FILES_A_REQUEST = 50
DEFAULT_URL = "http://127.0.0.1:8000"

app = typer.Typer(
    name="knowledgebeast",
    help="Hybrid search over your documents.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
maintain = typer.Typer(help="Tasks on the data volume; each leaves a result file there.", no_args_is_help=True)
app.add_typer(maintain, name="maintain")

Url = Annotated[str, typer.Option(envvar="KNOWLEDGEBEAST_URL", help="Address of a running service.")]
Project = Annotated[str, typer.Option("--project", "-p", help="Project to use.")]


def _serve(**flags: object) -> None:
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        settings = Settings(**given)  # pyright: ignore[reportArgumentType]
    except ValidationError as error:
        for one in error.errors():
            typer.echo(f"{'.'.join(map(str, one['loc']))}: {one['msg']}", err=True)
        raise typer.Exit(2) from error
    from knowledgebeast_service.server import serve  # imports the whole service; other commands do without

    try:
        serve(settings)
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


_serve.__signature__ = inspect.Signature(_flags())  # pyright: ignore[reportFunctionMemberAccess]
app.command(
    name="serve",
    help="Serve the HTTP API. With no option at all it runs complete on one machine: Chroma inside the process, "
    "data in ./data.\n\nExample: knowledgebeast serve --data-dir ~/kb --rate-limit-per-minute 0",
)(_serve)


@app.command(help="Ingest text files.\n\nExample: knowledgebeast ingest notes/*.md --project notes --wait")
def ingest(
    paths: Annotated[list[Path], typer.Argument(help="Files (UTF-8 text); a folder means all files below it.")],
    project: Project,
    url: Url = DEFAULT_URL,
    wait: Annotated[bool, typer.Option(help="Wait until they are searchable by vector.")] = False,
) -> None:
    files = sorted(
        {file for path in paths for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()}
    )
    rejected = 0
    with httpx.Client(base_url=url, timeout=REQUEST_SECONDS) as client:
        for start in range(0, len(files), FILES_A_REQUEST):
            documents = [
                {"id": str(file), "title": file.stem, "text": file.read_text(encoding="utf-8", errors="replace")}
                for file in files[start : start + FILES_A_REQUEST]
            ]
            content = _call(
                client, "POST", "/api/v1/ingest", {"wait": wait}, {"project": project, "documents": documents}
            )
            for result in content["results"]:
                rejected += result["status"] == "rejected"
                typer.echo(f"{result['status']:9} {result['id']}{'  ' + result['error'] if result['error'] else ''}")
    raise typer.Exit(1 if rejected else 0)


@app.command(help='Search a project.\n\nExample: knowledgebeast query "how do I restore a backup" --project notes')
def query(
    text: Annotated[str, typer.Argument(help="What to look for.")],
    project: Project,
    url: Url = DEFAULT_URL,
    top_k: Annotated[int, typer.Option(help="Number of results.")] = 5,
    mode: Annotated[str, typer.Option(help="hybrid, keyword or vector.")] = "hybrid",
) -> None:
    with httpx.Client(base_url=url, timeout=REQUEST_SECONDS) as client:
        content = _call(client, "GET", f"/api/v1/query/{project}", {"q": text, "top_k": top_k, "mode": mode}, None)
    if content["degraded_mode"]:
        typer.echo(f"degraded: {content['degraded_reason']}", err=True)
    for result in content["results"]:
        excerpt = " ".join(result["text"].split())[:160]
        typer.echo(f"{result['score']:.3f}  {result['document_id']}  {result['title']}\n       {excerpt}")


@maintain.command(
    help="Check the database: integrity, foreign keys, schema, counts. Runs beside the service.\n\n"
    "Example: knowledgebeast maintain check --data-dir /data --attempt-id nightly-7"
)
def check(
    attempt_id: Annotated[str, typer.Option(help="The same id gives the same result again, without a second run.")],
    data_dir: Annotated[Path, typer.Option(envvar="DATA_DIR", help="Folder of the database.")] = Path("data"),
) -> None:
    try:
        path = result_path(data_dir, CHECK, attempt_id)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    result = read_result(path)
    if result is None:
        result = run_check(data_dir / "knowledgebeast.db", attempt_id)
        write_result(path, result, Path(os.environ.get("TERMINATION_LOG", "/dev/termination-log")))
    typer.echo(result.to_json())
    raise typer.Exit(0 if result.ok else 1)


@app.command(
    name="build-model",
    help="Make the model folder from the pinned weights.\n\nExample: knowledgebeast build-model --out /opt/models",
)
def build_model(
    out: Annotated[Path | None, typer.Option(help="Folder to make; default: the user's cache.")] = None,
) -> None:
    try:
        from knowledgebeast_service.embedding.build.command import main as build
    except ImportError as error:
        typer.echo(f"the build tools are not installed ({error}): `uv sync --group model`", err=True)
        raise typer.Exit(1) from error
    build([] if out is None else ["--out", str(out)])


@app.command(help="Print the version.")
def version() -> None:
    typer.echo(__version__)


def _call(client: httpx.Client, method: str, path: str, params: dict[str, Any], body: object) -> dict[str, Any]:
    try:
        response = client.request(method, path, params=params, json=body)
    except httpx.HTTPError as error:
        typer.echo(f"no answer from {client.base_url}: {error}. Is `knowledgebeast serve` running?", err=True)
        raise typer.Exit(1) from error
    content: dict[str, Any] = response.json()
    if response.is_error:
        typer.echo(f"{response.status_code}: {content.get('detail', response.text)}", err=True)
        raise typer.Exit(1)
    return content


def main() -> None:
    """Entry point of the `knowledgebeast` command."""
    app()


if __name__ == "__main__":
    sys.exit(main())
