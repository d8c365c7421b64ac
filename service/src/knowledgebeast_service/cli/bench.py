"""`knowledgebeast bench`: a small load on a running service."""

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import httpx
import typer

from knowledgebeast_service.cli.client import DEFAULT_URL, Json, Project, Url, call, connect, key_headers
from knowledgebeast_service.cli.progress import progress_bars
from knowledgebeast_service.evaluation.load import Load, run_load

HELP = """Send queries to a running service at a constant rate and print how long the answers took.

Times count from the moment at which each query was due. The queries are lines of a file (or objects with "text", one a
line), else the titles of the project's documents. Set RATE_LIMIT_PER_MINUTE=0 in the service first, or most are
refused. The status is 1 when a query failed.

Example: knowledgebeast bench --project notes --rate 20 --seconds 30

Example: knowledgebeast bench -p notes --queries questions.txt --mode keyword --json
"""
TITLES = 200
CONNECTIONS = 256
TIMEOUT_SECONDS = 30.0
QUERY_CHARACTERS = 1000
MODES = ("hybrid", "keyword", "vector")


def bench(
    project: Project,
    url: Url = DEFAULT_URL,
    rate: Annotated[float, typer.Option(min=0.1, max=5000, help="Queries a second.")] = 10,
    seconds: Annotated[float, typer.Option(min=1, max=600, help="For how long.")] = 10,
    mode: Annotated[str, typer.Option(help="hybrid, keyword or vector.")] = "hybrid",
    top_k: Annotated[int, typer.Option(min=1, max=100, help="Results of each query.")] = 10,
    queries: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="File of queries.")] = None,
    as_json: Json = False,
) -> None:
    if mode not in MODES:
        raise typer.BadParameter(f"one of {', '.join(MODES)}", param_hint="--mode")
    texts = _texts(queries) if queries else _titles(url, project)
    if not texts:
        typer.echo("there is nothing to ask: give --queries FILE, or a project whose documents have titles", err=True)
        raise typer.Exit(1)
    bodies: list[dict[str, object]] = [{"query": text, "mode": mode, "top_k": top_k} for text in texts]

    async def measure() -> Load:
        limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
        with progress_bars() as report:
            async with httpx.AsyncClient(
                base_url=url, timeout=TIMEOUT_SECONDS, limits=limits, headers=key_headers()
            ) as client:
                return await run_load(
                    client,
                    f"/api/v1/query/{project}",
                    bodies,
                    rate=rate,
                    seconds=seconds,
                    progress=lambda done, total: report("queries", done, total),
                )

    load = asyncio.run(measure())
    typer.echo(_as_json(load) if as_json else _as_text(load, rate))
    raise typer.Exit(1 if load.failures else 0)


def _texts(path: Path) -> list[str]:
    lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    found = [str(json.loads(line)["text"]) if line.startswith("{") else line for line in lines]
    return [text[:QUERY_CHARACTERS] for text in found]


def _titles(url: str, project: str) -> list[str]:
    with connect(url) as client:
        listed = call(client, "GET", f"/api/v1/projects/{project}/documents", {"limit": TITLES})
    return [one["title"][:QUERY_CHARACTERS] for one in listed["documents"] if one["title"].strip()]


def _figures(load: Load) -> dict[str, float]:
    shares = {"P50": 0.5, "P95": 0.95, "P99": 0.99, "max": 1.0}
    return {name: round(load.percentile(share), 2) for name, share in shares.items()} if load.answered else {}


def _as_json(load: Load) -> str:
    counts = {name: value for name, value in asdict(load).items() if name != "milliseconds"}
    return json.dumps({"requests": load.requests, "answered": load.answered, **counts, "milliseconds": _figures(load)})


def _as_text(load: Load, rate: float) -> str:
    lines = [f"{load.requests:,} queries in {load.seconds:.1f} s ({rate:g} a second were due)"]
    if load.answered:
        figures = "   ".join(f"{name} {value:,.2f}" for name, value in _figures(load).items())
        lines += [f"milliseconds   {figures}"]
        lines += [f"from the cache {load.cached / load.answered:.0%}, degraded {load.degraded / load.answered:.0%}"]
    lines += [f"failed: {count:,} × {kind}" for kind, count in load.failures.most_common()]
    if load.failures["429"]:
        lines.append("429 is the service's rate limit: set RATE_LIMIT_PER_MINUTE=0 for the time of the measurement")
    return "\n".join(lines)
