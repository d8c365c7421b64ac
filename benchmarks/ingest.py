"""Ingestion through the service against the embedding model alone, which nothing can be faster than.

Both embed the same chunks with the same threads, in processes of their own, taking turns. The service is real: HTTP,
SQLite with `synchronous=FULL`, a Chroma server. The clock runs from the first request until the last document is
searchable by vector. Between answer and keyword search there is no wait, which is tried as well.

    uv run python benchmarks/ingest.py --documents 300 --rounds 2
"""

import argparse
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from knowledgebeast_service.embedding.build.folder import MODEL_HASH, build_model_folder
from knowledgebeast_service.embedding.loading import load_on_cpu
from knowledgebeast_service.embedding.manifest import default_models_root
from knowledgebeast_service.ingest.embed_stage import BATCH
from knowledgebeast_service.ingest.prepare import IncomingDocument, inspect_document, prepare, searchable_text
from knowledgebeast_service.telemetry.limits import cpu_limit
from report import Result, finish, plain, relative

BIN = Path(sys.executable).parent
REQUEST_DOCUMENTS = 50
LIMIT_SECONDS = 900.0
KEYWORD_PROBES = 20


def documents(corpus: Path | None, count: int) -> list[dict[str, str]]:
    """From a BEIR corpus.jsonl, else made of a vocabulary with Zipf's frequencies, as long as abstracts."""
    if corpus is not None:
        lines = [json.loads(line) for line in corpus.read_text(encoding="utf-8").splitlines()[:count]]
        return [{"id": line["_id"], "title": line["title"], "text": line["text"]} for line in lines]
    chance = random.Random(1)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(3, 9))) for _ in range(20_000)]
    weights = [1 / (rank + 10) for rank in range(len(words))]

    def sentence() -> str:
        return " ".join(chance.choices(words, weights, k=chance.randint(8, 30))).capitalize() + "."

    return [
        {
            "id": f"d{number}",
            "title": " ".join(chance.choices(words, k=8)),
            "text": " ".join(sentence() for _ in range(chance.randint(5, 14))),
        }
        for number in range(count)
    ]


def model_folder() -> Path:
    """The model that `make model` builds."""
    folder = default_models_root() / MODEL_HASH
    build_model_folder(folder)
    return folder


def model_alone(given: Sequence[dict[str, str]]) -> tuple[int, float]:
    """(chunks, seconds) of embedding and nothing else; cutting the texts is not counted."""
    model = load_on_cpu(model_folder(), cpu_limit())
    prepared = [
        prepare(inspect_document(IncomingDocument(one["text"], one["title"], one["id"])), model.count_tokens)
        for one in given
    ]
    texts = [searchable_text(one.title, chunk.text) for one in prepared for chunk in one.chunks]
    model.embed(texts[:BATCH])
    started = time.perf_counter()
    for start in range(0, len(texts), BATCH):
        model.embed(texts[start : start + BATCH])
    return len(texts), time.perf_counter() - started


def model_alone_elsewhere(arguments: argparse.Namespace) -> tuple[int, float]:
    """`model_alone` in a process of its own."""
    command = [sys.executable, __file__, "--model-alone", "--documents", str(arguments.documents)]
    if arguments.corpus:
        command += ["--corpus", str(arguments.corpus)]
    chunks, seconds = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return int(chunks), float(seconds)


@contextmanager
def running(command: list[str], ready_url: str, log: Path, **environment: str) -> Generator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=os.environ | environment, cwd=log.parent)
    try:
        deadline = time.monotonic() + 60
        while not _answers(ready_url):
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError(f"{command[0]} does not start: {log.read_text()[-2000:]}")
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def service(folder: Path) -> Generator[httpx.Client]:
    """A new service with a new Chroma; its model is loaded."""
    chroma_port, port = _free_port(), _free_port()
    chroma = [str(BIN / "chroma"), "run", "--path", str(folder / "chroma"), "--port", str(chroma_port)]
    chroma_url, url = f"http://127.0.0.1:{chroma_port}", f"http://127.0.0.1:{port}"
    settings = {
        "DATA_DIR": str(folder / "data"),
        "MODEL_DIR": str(model_folder()),
        "PORT": str(port),
        "CHROMA_URL": chroma_url,
        "RATE_LIMIT_PER_MINUTE": "0",
        "DRAIN_SECONDS": "0",
    }
    with (
        running(chroma, f"{chroma_url}/api/v2/heartbeat", folder / "chroma.log"),
        running([str(BIN / "knowledgebeast"), "serve"], f"{url}/readyz", folder / "service.log", **settings),
        httpx.Client(base_url=url, timeout=120) as client,
    ):
        warm = {"project": "warm", "documents": [{"id": "w", "text": "Warm up."}]}
        while client.post("/api/v1/ingest", params={"wait": True}, json=warm).json()["status"] != "indexed":
            time.sleep(0.1)
        yield client


def through_service(given: Sequence[dict[str, str]]) -> dict[str, Any]:
    """Chunks, seconds until all are searchable by vector, and how many were found by keyword right after the answer."""
    with tempfile.TemporaryDirectory() as folder, service(Path(folder)) as client:
        started = time.perf_counter()
        for some in _batches(given, REQUEST_DOCUMENTS):
            client.post("/api/v1/ingest", json={"project": "p", "documents": some}).raise_for_status()
        accepted = time.perf_counter() - started
        while _queued(client):
            if time.perf_counter() - started > LIMIT_SECONDS:
                raise RuntimeError("the queue does not become empty")
            time.sleep(0.1)
        seconds = time.perf_counter() - started
        chunks = client.get("/api/v1/projects/p").json()["chunks"]
        found = [_found_at_once(client, number) for number in range(KEYWORD_PROBES)]
    return {"chunks": chunks, "seconds": seconds, "accepted_seconds": accepted, "found_at_once": sum(found)}


def _found_at_once(client: httpx.Client, number: int) -> bool:
    word = f"probe{number}"
    client.post("/api/v1/ingest", json={"project": "p", "documents": [{"id": word, "text": f"{word} is here"}]})
    answer = client.get("/api/v1/query/p", params={"q": word, "mode": "keyword"}).json()
    return [result["document_id"] for result in answer["results"]] == [word]


def _queued(client: httpx.Client) -> int:
    return int(client.get("/api/v1/stats").json()["ingest_queue"]["documents"])


def _batches(given: Sequence[dict[str, str]], size: int) -> Iterator[Sequence[dict[str, str]]]:
    for start in range(0, len(given), size):
        yield given[start : start + size]


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.HTTPError:
        return False


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=2, help="times that both take their turn")
    parser.add_argument("--corpus", type=Path, help="corpus.jsonl of a BEIR data set (default: generated text)")
    parser.add_argument("--model-alone", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    given = documents(arguments.corpus, arguments.documents)
    if arguments.model_alone:
        print(json.dumps(model_alone(given)))
        return 0
    rounds: list[dict[str, Any]] = []
    for _ in range(arguments.rounds):
        before_chunks, before = model_alone_elsewhere(arguments)
        one = through_service(given)
        after_chunks, after = model_alone_elsewhere(arguments)
        if {before_chunks, after_chunks} != {one["chunks"]}:
            raise RuntimeError(f"not the same chunks: {before_chunks}, {one['chunks']}")
        rounds.append(one | {"model_seconds": (before + after) / 2})
    rates = [one["chunks"] / one["seconds"] for one in rounds]
    alone = [one["chunks"] / one["model_seconds"] for one in rounds]
    results: list[Result] = [
        relative("ingestion", median(rates), median(alone), "chunks/s", "the model alone", at_least=0.85, aim=0.95),
        plain("accepted", len(given) / median(one["accepted_seconds"] for one in rounds), "documents/s"),
        plain(
            "found by keyword at once",
            100 * sum(one["found_at_once"] for one in rounds) / (KEYWORD_PROBES * len(rounds)),
            "%",
            at_least=100,
        ),
    ]
    return finish("ingest", results, rounds)


if __name__ == "__main__":
    sys.exit(main())
