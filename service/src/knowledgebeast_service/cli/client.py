"""Calls to a running service, with errors that a person can act on."""

import os
from typing import Annotated, Any

import httpx
import typer

REQUEST_SECONDS = 120.0
DEFAULT_URL = "http://127.0.0.1:8000"
KEY_VARIABLE = "KNOWLEDGEBEAST_API_KEY"  # not an option: other users of the machine can read a command line
UNAUTHORIZED = 401

Url = Annotated[str, typer.Option(envvar="KNOWLEDGEBEAST_URL", help="Address of a running service.")]
Project = Annotated[str, typer.Option("--project", "-p", help="Project to use.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]


def key_headers() -> dict[str, str]:
    """The API key of the environment as headers."""
    key = os.environ.get(KEY_VARIABLE, "").strip()
    return {"authorization": f"Bearer {key}"} if key else {}


def connect(url: str) -> httpx.Client:
    """A client of the service at `url`, to be closed by the caller."""
    return httpx.Client(base_url=url, timeout=REQUEST_SECONDS, headers=key_headers())


def call(
    client: httpx.Client, method: str, path: str, params: dict[str, Any] | None = None, body: object = None
) -> dict[str, Any]:
    """The answer's JSON; any failure is said on stderr and ends the command with status 1."""
    try:
        response = client.request(method, path, params=params, json=body)
        content: dict[str, Any] = response.json()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        typer.echo(f"no answer from {client.base_url}: {error}. Is `knowledgebeast serve` running?", err=True)
        raise typer.Exit(1) from error
    except ValueError as error:
        typer.echo(f"{client.base_url} does not answer in JSON: is it a KnowledgeBeast service?", err=True)
        raise typer.Exit(1) from error
    if response.is_error:
        hint = f" Set {KEY_VARIABLE}." if response.status_code == UNAUTHORIZED else ""
        typer.echo(f"{response.status_code}: {content.get('detail', response.text)}{hint}", err=True)
        raise typer.Exit(1)
    return content
