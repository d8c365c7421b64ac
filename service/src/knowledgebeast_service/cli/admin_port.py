"""Calls to the admin port of service processes, with the token on their data volume."""

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import httpx
import typer

from knowledgebeast_service.api.admin_token import NAME

Json = Mapping[str, object]


class AdminCallError(Exception):
    """No answer, or one that refuses; `str(error)` is a sentence for a person. `status` is 0 without an answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


def read_token(data_dir: Path) -> str:
    """The token; without one, the command ends with status 1."""
    try:
        return (data_dir / NAME).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        typer.echo(f"no admin token ({error}): is {data_dir} the data folder of the service?", err=True)
        raise typer.Exit(1) from error


def every_address(url: str) -> list[str]:
    """`url` once for each address that its host has now: those of the ready pods behind a headless Service.

    Raises:
        AdminCallError: the name has no address.
    """
    parsed = httpx.URL(url)
    try:
        found = socket.getaddrinfo(parsed.host, parsed.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise AdminCallError(f"{parsed.host} has no address: {error.strerror}. Is a pod of it ready?") from error
    return sorted({str(parsed.copy_with(host=str(address[0]))) for *_, address in found})


def ask(url: str, path: str, token: str, *, deadline_seconds: float, body: object = None, **params: float) -> Json:
    """POST to the admin port, and the answer's JSON.

    Raises:
        AdminCallError: no answer within the deadline, or an error.
    """
    headers = {"authorization": f"Bearer {token}"}
    try:
        response = httpx.post(
            f"{url}{path}", json=body, params=params, headers=headers, timeout=deadline_seconds, trust_env=False
        )
        content = cast("Json", response.json())
    except (httpx.HTTPError, ValueError) as error:
        raise AdminCallError(f"no answer from {url}: {error}. Is the service running?") from error
    if response.is_error:
        raise AdminCallError(f"{response.status_code}: {content.get('detail', response.text)}", response.status_code)
    return content
