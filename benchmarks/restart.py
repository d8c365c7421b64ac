"""A replica's restart and memory with 100,000 chunks: process start until /readyz answers, with and without the file of
the keyword index; resident memory after queries; time until a replica has applied new documents.

The service runs as its own process on a database with chunks, postings and vectors. Nothing listens at its CHROMA_URL:
vectors are not held in the process either way, and a hundred thousand in Chroma would take minutes to fill.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import httpx
import numpy as np

from knowledgebeast_service.embedding.build.folder import MODEL_HASH
from knowledgebeast_service.search.replica import KeywordReplica
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.documents import upsert_documents
from knowledgebeast_service.storage.records import PreparedChunk, PreparedDocument, pack_vector
from report import Result, finish, percentiles, plain
from synthetic import Corpus, keyword_queries, make_corpus

EXAMPLES = """examples:
  uv run python benchmarks/restart.py                                100,000 chunks
  uv run python benchmarks/restart.py --chunks 10000 --starts 2      a quick look
"""
PROJECT = "bench"
CHUNKS_IN_A_DOCUMENT = 5
DIMENSIONS = 384
READY_SECONDS = 120.0
FILE_SECONDS = 300.0
QUERIES = 200
REFRESHES = {1: 14.0, 100: 83.0, 1000: 215.0}  # documents of one chunk: milliseconds, from a prototype


@dataclass(frozen=True)
class Start:
    """One life of the service process; memory in MiB after the queries, `cpu_seconds` spent until it was ready."""

    ready_seconds: float
    cpu_seconds: float
    load_seconds: float
    resident: float
    anonymous: float


def document(name: str, chunks: list[list[int]]) -> PreparedDocument:
    made: list[PreparedChunk] = []
    for words in chunks:
        names = [f"w{word}" for word in words]
        made.append(PreparedChunk(" ".join(names) + " ", Counter(names)))
    return PreparedDocument(name, f"Document {name}", "{}", tuple(made))


def fill(path: Path, corpus: Corpus) -> None:
    """As ingestion and embedding leave it: nothing in the queue."""
    database = Database(path)
    database.open()
    texts = [cast("list[int]", chunk.tolist()) for chunk in corpus.chunks]
    documents = [
        document(f"d{start}", texts[start : start + CHUNKS_IN_A_DOCUMENT])
        for start in range(0, len(texts), CHUNKS_IN_A_DOCUMENT)
    ]
    for start in range(0, len(documents), 500):
        some = documents[start : start + 500]
        database.write_now(lambda connection, some=some: upsert_documents(connection, PROJECT, some))
    database.write_now(_store_vectors)
    database.close()


def _store_vectors(connection: Connection) -> None:
    generator = np.random.default_rng(5)
    ids = [int(row[0]) for row in connection.rows("SELECT id FROM chunks")]

    def rows() -> Iterator[tuple[int, str, int, bytes]]:
        for chunk_id in ids:
            vector = generator.normal(size=DIMENSIONS).astype(np.float32)
            yield chunk_id, MODEL_HASH, 1, pack_vector((vector / np.linalg.norm(vector)).astype(np.float32))

    connection.execute_many(
        "INSERT INTO vectors (chunk_id, model_hash, project_id, vector) VALUES (?, ?, ?, ?)", rows()
    )
    connection.execute("DELETE FROM ingest_queue")


@contextmanager
def service(data_dir: Path, log: Path) -> Generator[tuple[int, str, float, float]]:
    """(process id, address, seconds until ready, of them on a CPU)."""
    port, unused = _free_port(), _free_port()
    environment = os.environ | {
        "DATA_DIR": str(data_dir),
        "CHROMA_URL": f"http://127.0.0.1:{unused}",
        "PORT": str(port),
        "HOST": "127.0.0.1",
        "RATE_LIMIT_PER_MINUTE": "0",
        "DRAIN_SECONDS": "0",
    }
    with log.open("wb") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            [Path(sys.executable).with_name("knowledgebeast"), "serve"],
            env=environment, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        address = f"http://127.0.0.1:{port}"
        try:
            _wait_until_ready(process, address, log)
            yield process.pid, address, time.perf_counter() - started, _cpu_seconds(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _wait_until_ready(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{address}/readyz", timeout=1).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.02)
    raise SystemExit(f"the service did not become ready; its last words:\n{log.read_text()[-3000:]}")


def live(data_dir: Path, log: Path, queries: list[list[int]]) -> Start:
    """Start, query, weigh, stop."""
    with service(data_dir, log) as (process_id, address, ready_seconds, cpu_seconds):
        with httpx.Client(base_url=address, timeout=30) as client:
            for query in queries:
                text = " ".join(f"w{word}" for word in query)
                answer = client.get(f"/api/v1/query/{PROJECT}", params={"q": text, "mode": "keyword"})
                assert answer.json()["results"], f"nothing found for {text}"
        if not _file_of(data_dir).exists():
            _wait_for_file(data_dir)
        resident, anonymous = _memory(process_id)
    return Start(ready_seconds, cpu_seconds, _load_seconds(log), resident, anonymous)


def _file_of(data_dir: Path) -> Path:
    return data_dir / "keyword-index" / "frozen.bin"


def _wait_for_file(data_dir: Path) -> None:
    deadline = time.monotonic() + FILE_SECONDS
    while not _file_of(data_dir).exists() and time.monotonic() < deadline:
        time.sleep(0.1)


def _memory(pid: int) -> tuple[float, float]:
    """(resident, anonymous) MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    values = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.endswith(" kB")}
    return values["VmRSS"], values["RssAnon"]


def _cpu_seconds(pid: int) -> float:
    """User and system time of all its threads so far."""
    values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


def _load_seconds(log: Path) -> float:
    for line in log.read_text().splitlines():
        if "keyword index loaded" in line:
            return float(line.partition(" chunks in ")[2].split()[0])
    raise SystemExit(f"{log} does not say how long the index took to load")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def refreshes(data_dir: Path, corpus: Corpus) -> list[Result]:
    """From the commit of new documents to the snapshot that has them."""
    database = Database(data_dir / "knowledgebeast.db")
    database.open()
    replica = KeywordReplica(database)
    await replica.catch_up()
    results: list[Result] = []
    for count, bar in REFRESHES.items():
        samples: list[float] = []
        on_cpu: list[float] = []
        for turn in range(7):
            words = [cast("list[int]", chunk.tolist()) for chunk in corpus.chunks[turn * count : (turn + 1) * count]]
            fresh = [document(f"new-{count}-{turn}-{place}", [some]) for place, some in enumerate(words)]
            await database.write(lambda connection, fresh=fresh: upsert_documents(connection, PROJECT, fresh))
            started, cpu_started = time.perf_counter(), time.process_time()
            await replica.catch_up()
            samples.append(1000 * (time.perf_counter() - started))
            on_cpu.append(1000 * (time.process_time() - cpu_started))
        at = percentiles(samples)
        subject = f"a replica applies {count} new documents, P50 (largest {at.max:.0f} ms)"
        results.append(plain(subject, at.p50, "ms", at_most=bar))
        results.append(plain("  on a CPU, P50", percentiles(on_cpu).p50, "ms"))
    replica.close()
    database.close()
    return results


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--chunks", type=int, default=100_000, help="size of the collection")
    parser.add_argument("--starts", type=int, default=5, help="starts with the file")
    arguments = parser.parse_args()
    chunks, starts = cast("int", arguments.chunks), cast("int", arguments.starts)
    corpus = make_corpus(chunks)
    queries = keyword_queries(corpus, QUERIES)
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder) / "data"
        fill(data_dir / "knowledgebeast.db", corpus)
        log = Path(folder) / "service.log"
        first = live(data_dir, log, queries)
        later = [live(data_dir, log, queries) for _ in range(starts)]
        size = _file_of(data_dir).stat().st_size if _file_of(data_dir).exists() else 0
        changes = asyncio.run(refreshes(data_dir, corpus))
        shutil.rmtree(data_dir)
    loads = percentiles([start.load_seconds for start in later])
    ready = percentiles([start.ready_seconds for start in later])
    name = f"{chunks:,} chunks"
    results = [
        plain(f"process start to /readyz 200, {name}, P50", ready.p50, "s", at_most=5.0),
        plain("  largest", ready.max, "s"),
        plain("  on a CPU, P50", percentiles([start.cpu_seconds for start in later]).p50, "s"),
        plain("  without the file (first start)", first.ready_seconds, "s"),
        plain("loading the keyword index, P50", loads.p50, "s"),
        plain("  without the file", first.load_seconds, "s"),
        plain("size of the file", size / 2**20, "MiB"),
        plain("resident memory after a restart and queries", later[-1].resident, "MiB", at_most=600, aim=350),
        plain("  of it anonymous", later[-1].anonymous, "MiB"),
        plain("resident memory after the first start", first.resident, "MiB", at_most=600, aim=350),
        *changes,
    ]
    return finish("restart", results, json.loads(json.dumps([vars(start) for start in (first, *later)])))


if __name__ == "__main__":
    sys.exit(main())
