"""`knowledgebeast maintain warm`: fill the caches of running service processes by their admin port."""

from pathlib import Path
from typing import Annotated

import typer

from knowledgebeast_service.cli.admin_port import AdminCallError, Json, ask, every_address, read_token
from knowledgebeast_service.cli.maintain import refuse_another_volume, termination_log
from knowledgebeast_service.maintenance.result import TaskResult, read_result, result_path, write_result

TASK = "warm"
WARM_SECONDS = 900.0  # 10,000 queries at the default rate take 500 s
COUNTED = ("asked", "already_cached", "failed")
HELP = """Fill the caches of a running service with the queries that are asked most, or with those of a file.

Caches are in each process: with several pods, name them all by a headless Service and --all-addresses. They are warmed
one after the other. The token is read from the data folder. It stops by itself, and says so, when users' queries become
slower.

Example: knowledgebeast maintain warm --data-dir /data --project all --top-queries 200

Example: knowledgebeast maintain warm --data-dir /data --project notes --queries-file queries.txt
"""


def warm(
    project: Annotated[str, typer.Option(help="A project, or all.")] = "all",
    top_queries: Annotated[int, typer.Option(min=1, max=10_000, help="Most asked queries of each project.")] = 100,
    queries_file: Annotated[Path | None, typer.Option(help="Ask these instead: one query a line, UTF-8.")] = None,
    per_second: Annotated[float, typer.Option(help="Most queries a second.")] = 20.0,
    data_dir: Annotated[Path, typer.Option(envvar="DATA_DIR", help="Folder with the admin token.")] = Path("data"),
    admin_url: Annotated[
        str, typer.Option(envvar="KNOWLEDGEBEAST_ADMIN_URL", help="Admin address of the service.")
    ] = "http://127.0.0.1:8001",
    all_addresses: Annotated[
        bool, typer.Option("--all-addresses", help="Every process that the host of --admin-url resolves to.")
    ] = False,
    attempt_id: Annotated[
        str | None, typer.Option(help="Leave a result file; the same id gives the same result, without a second run.")
    ] = None,
) -> None:
    try:
        path = None if attempt_id is None else result_path(data_dir, TASK, attempt_id)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    refuse_another_volume(data_dir, TASK, attempt_id or "")
    result = None if path is None else read_result(path)
    if result is None:
        body: dict[str, object] = {"project": project, "top_queries": top_queries, "per_second": per_second}
        if queries_file is not None:
            body["queries"] = _lines(queries_file)
        result = _warm(admin_url, read_token(data_dir), body, attempt_id or "", all_addresses=all_addresses)
        if path is not None:
            write_result(path, result, termination_log())
    typer.echo(result.to_json())
    raise typer.Exit(0 if result.ok else 1)


def _lines(file: Path) -> list[str]:
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        typer.echo(f"cannot be read: {error}", err=True)
        raise typer.Exit(1) from error


def _warm(url: str, token: str, body: Json, attempt_id: str, *, all_addresses: bool) -> TaskResult:
    """One process after the other: together they would ask Chroma many times as fast."""
    answers: list[Json] = []
    problems: list[str] = []
    try:
        urls = every_address(url) if all_addresses else [url]
    except AdminCallError as error:
        return TaskResult(TASK, attempt_id, ok=False, refused=str(error), reason="NoAddress")
    for one in urls:
        try:
            answer = ask(one, "/admin/v1/warm", token, deadline_seconds=WARM_SECONDS, body=body)
        except AdminCallError as error:
            problems.append(str(error))
            continue
        answers.append(answer)
        problems += _problems(one, answer)
    measured: dict[str, object] = {name: sum(_count(answer, name) for answer in answers) for name in COUNTED}
    measured |= {"processes": len(answers), "problems": problems}
    return TaskResult(TASK, attempt_id, not problems, measured)


def _problems(url: str, answer: Json) -> list[str]:
    stopped, failed = answer.get("stopped"), _count(answer, "failed")
    return [
        *([f"{url} stopped after {_count(answer, 'asked')} queries: {stopped}"] if stopped else []),
        *([f"{url}: {failed} queries failed"] if failed else []),
    ]


def _count(answer: Json, name: str) -> int:
    value = answer.get(name)
    return value if isinstance(value, int) else 0
