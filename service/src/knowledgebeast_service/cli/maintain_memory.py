"""`knowledgebeast maintain heap-profile`: what the memory of a running service process is held by."""

import json
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, cast

import typer

from knowledgebeast_service.cli.admin_port import AdminCallError, Json, ask, read_token
from knowledgebeast_service.cli.client import REQUEST_SECONDS
from knowledgebeast_service.cli.maintain import report
from knowledgebeast_service.maintenance.result import TaskResult

TASK = "heap-profile"
MIB = 1024 * 1024
SHOWN = 5

HELP = """Show what the memory of a running service is held by: lines of code, types of objects, caches, as JSON.

Asks the admin port, with the token on the data volume. While profiling is off it traces for --seconds, and what was
allocated before is not seen.

Example: knowledgebeast maintain heap-profile --data-dir /data --seconds 30
"""


def heap_profile(
    data_dir: Annotated[Path, typer.Option(envvar="DATA_DIR", help="Folder of the database.")] = Path("data"),
    admin_url: Annotated[str, typer.Option(help="Address of the admin port.")] = "http://127.0.0.1:8001",
    seconds: Annotated[float, typer.Option(min=0, max=60, help="How long to trace.")] = 10,
    attempt_id: Annotated[
        str | None, typer.Option(help="Leave a result file; the same id gives the same result, without a second run.")
    ] = None,
) -> None:
    token = read_token(data_dir)

    def profile() -> Json:
        path, deadline = "/admin/v1/heap-profile", seconds + REQUEST_SECONDS
        return ask(admin_url, path, token, deadline_seconds=deadline, seconds=seconds)

    if attempt_id is not None:
        report(data_dir, TASK, attempt_id, lambda: _result(profile, attempt_id))
    try:
        typer.echo(json.dumps(profile()))
    except AdminCallError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error


def _result(profile: Callable[[], Json], attempt_id: str) -> TaskResult:
    """Refused where the process has no memory left for it: a profile must not be what kills it."""
    try:
        found = profile()
    except AdminCallError as error:
        reason = "NoMemoryToProfile" if error.status == HTTPStatus.SERVICE_UNAVAILABLE else "NoAnswer"
        return TaskResult(TASK, attempt_id, ok=False, refused=str(error), reason=reason)
    return TaskResult(TASK, attempt_id, ok=True, measured={**found, "findings": _findings(found)})


def _findings(profile: Json) -> list[str]:
    """What holds most, in a sentence each; the whole profile is in the result file."""
    allocations = cast("Sequence[Json]", profile["allocations"])[:SHOWN]
    caches = cast("Mapping[str, int]", profile["caches"])
    return [
        *(f"cache {name} holds {size / MIB:.1f} MiB" for name, size in caches.items()),
        *(f"{one['where']} holds {cast('int', one['bytes']) / MIB:.1f} MiB" for one in allocations),
    ]
