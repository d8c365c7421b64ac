"""`knowledgebeast eval`: how good the answers are on a judged collection."""

import asyncio
import contextlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from knowledgebeast_service.cli.client import key_headers
from knowledgebeast_service.cli.progress import Report, progress_bars
from knowledgebeast_service.errors import KnowledgeBeastError
from knowledgebeast_service.evaluation.dataset import Dataset, DatasetError, read_dataset
from knowledgebeast_service.evaluation.measures import Quality, require_measures
from knowledgebeast_service.evaluation.run import Loaded, Mode, ask, load, wait_for_vectors
from knowledgebeast_service.evaluation.target import embedded, running

MODES: tuple[Mode, ...] = ("keyword", "vector", "hybrid")
HELP = """Measure the answers on a judged collection: nDCG@10, average precision (MAP), recall@100.

The folder holds corpus.jsonl and queries.jsonl (one object a line: _id, title, text) and qrels.tsv (query-id,
corpus-id, score), as BEIR publishes them. Without --url a service runs inside this command, in a temporary folder or
in --data-dir.

To compare two versions of the ranking, keep the vectors: give both runs the same --data-dir. A corpus that is already
there is not ingested again.

Needs the extra `eval`: pip install 'knowledgebeast-service[eval]'

Example: knowledgebeast eval --dataset scifact --mode all

Example: knowledgebeast eval --dataset scifact --data-dir /tmp/kb-eval --mode hybrid --json
"""


def evaluate(
    dataset: Annotated[Path, typer.Option(help="Folder with corpus.jsonl, queries.jsonl and qrels.tsv.")],
    mode: Annotated[str, typer.Option(help="keyword, vector, hybrid or all.")] = "all",
    url: Annotated[str | None, typer.Option(help="A running service; the corpus stays there as a project.")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Keep the embedded service's data here, for the next run to use.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    if mode not in (*MODES, "all"):
        raise typer.BadParameter("one of keyword, vector, hybrid, all", param_hint="--mode")
    if url is not None and data_dir is not None:
        raise typer.BadParameter("goes with an embedded service, not with --url", param_hint="--data-dir")
    modes: tuple[Mode, ...] = tuple(one for one in MODES if mode in (one, "all"))
    try:
        require_measures()
        collection = read_dataset(dataset)
        with progress_bars() as report:
            loaded, found = asyncio.run(_measure(collection, modes, url, data_dir, report))
    except (KnowledgeBeastError, DatasetError) as error:
        typer.echo(f"eval: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(_as_json(collection, loaded, found) if as_json else _as_table(collection, loaded, found))


async def _measure(
    collection: Dataset, modes: tuple[Mode, ...], url: str | None, data_dir: Path | None, report: Report
) -> tuple[Loaded, dict[Mode, Quality]]:
    project = _project_name(collection)
    with contextlib.ExitStack() as stack:
        folder = data_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="knowledgebeast-eval-")))
        async with running(url, key_headers()) if url else embedded(folder) as client:
            loaded = await load(client, project, collection, report)
            if modes != ("keyword",):
                await wait_for_vectors(client, report)
            return loaded, {mode: await ask(client, project, collection, mode, report) for mode in modes}


def _project_name(collection: Dataset) -> str:
    readable = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in collection.name)
    return f"eval-{readable[:40]}-{collection.fingerprint}"


def _as_json(collection: Dataset, loaded: Loaded, found: Mapping[Mode, Quality]) -> str:
    measured = {mode: asdict(one) for mode, one in found.items()}
    head = {"dataset": collection.name, "queries": len(collection.queries), **asdict(loaded)}
    return json.dumps(head | {"modes": measured})


def _as_table(collection: Dataset, loaded: Loaded, found: Mapping[Mode, Quality]) -> str:
    lines = [f"{collection.name}: {loaded.documents:,} documents, {len(collection.queries):,} judged queries"]
    if loaded.refused:
        lines.append(f"{loaded.refused:,} documents were refused (empty, or over a limit) and cannot be found")
    lines += ["", f"{'mode':10}{'nDCG@10':>9}{'MAP':>9}{'R@100':>9}"]
    lines += [
        f"{mode:10}{one.ndcg_at_10:9.4f}{one.average_precision:9.4f}{one.recall_at_100:9.4f}"
        for mode, one in found.items()
    ]
    singles = [one.ndcg_at_10 for mode, one in found.items() if mode != "hybrid"]
    if "hybrid" in found and singles:
        lines += [
            "",
            f"hybrid over the best single retriever: {found['hybrid'].ndcg_at_10 - max(singles):+.4f} nDCG@10",
        ]
    return "\n".join(lines)
