"""Load on a running service: latency of a hybrid query against its parts, cached against uncached, P99 under load.

It starts `chroma run` and `knowledgebeast serve` on loopback, fills a project once (kept under build/benchmarks), and
measures in one run:

1. one caller, taking turns: embedding + Chroma query alone, then the service on another query;
2. as many uncached queries as it can answer (a few callers without a pause), and cached ones the same way;
3. uncached queries at a constant rate of half of that, whatever the answers do (open model): latency from the instant
   at which a query was due.

"Per core" is per second of CPU time that the service's process used, so a busy machine does not change it much.
"""

import argparse
import asyncio
import contextlib
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from knowledgebeast_service.embedding.loading import load_on_cpu
from knowledgebeast_service.embedding.manifest import default_models_root
from knowledgebeast_service.telemetry.limits import cpu_limit
from report import FOLDER, Percentiles, Result, finish, percentiles, plain, relative
from service_parts import PROJECT, Caller, Client, Program, Texts, free_port, program, query_path

EXAMPLES = """examples:
  make bench-service                                      10,000 documents, about 2 minutes after the first filling
  uv run python benchmarks/service.py --quick             2,000 documents, under a minute
"""
NEIGHBOURS = 100  # what a hybrid query asks Chroma for
CALLERS = 8
CONNECTIONS = 64
POPULAR = 200  # distinct queries of the cached part
INGEST_BATCH = 250
CHROMA_PATH = "/api/v2/tenants/default_tenant/databases/default_database/collections"


@dataclass(frozen=True)
class Plan:
    """How much of everything."""

    documents: int = 10_000
    turns: int = 300
    seconds: float = 15.0
    cached_requests: int = 20_000


QUICK = Plan(documents=2_000, turns=100, seconds=5.0, cached_requests=5_000)


@dataclass(frozen=True)
class Flood:
    """Queries answered without a pause."""

    count: int
    seconds: float
    cpu_seconds: float  # of the service's process
    chroma_cpu_seconds: float

    @property
    def per_second(self) -> float:
        return self.count / self.seconds

    @property
    def per_core(self) -> float:
        return self.count / self.cpu_seconds


class Bench:
    """The parts of the run over one service."""

    def __init__(self, service: Program, chroma: Program, plan: Plan) -> None:
        self._service, self._chroma, self._plan = service, chroma, plan
        self._texts = Texts()
        self._numbers = itertools.count()

    def fresh(self) -> str:
        """A query that was never asked in this run."""
        return self._texts.query(next(self._numbers), self._plan.documents)

    def fill(self) -> None:
        """Make the project hold its documents, all of them searchable by vector."""
        caller = Caller(self._service.url)
        for start in range(0, self._plan.documents, INGEST_BATCH):
            documents = [
                {"id": str(n), "text": self._texts.document(n)} for n in range(start, start + INGEST_BATCH)
            ]  # fmt: skip
            caller.call("POST", "/api/v1/ingest", {"project": PROJECT, "documents": documents})
        deadline = time.monotonic() + 1800
        while (left := orjson.loads(caller.call("GET", "/api/v1/stats"))["ingest_queue"]["documents"]) > 0:
            if time.monotonic() > deadline:
                raise SystemExit(f"{left} documents still without a vector")
            time.sleep(1)

    def take_turns(self) -> tuple[list[float], list[float], list[float]]:
        """Milliseconds of (embedding, embedding + Chroma, the service), one caller, in turns."""
        embedder = load_on_cpu(default_models_root(), cpu_limit())
        chroma, service = Caller(self._chroma.url), Caller(self._service.url)
        collection = orjson.loads(chroma.call("GET", CHROMA_PATH))[0]["id"]
        embedding: list[float] = []
        parts: list[float] = []
        whole: list[float] = []
        for turn in range(self._plan.turns + 20):
            text, path = self.fresh(), query_path(self.fresh())
            start = time.perf_counter()
            vector = embedder.embed([text])
            embedded = time.perf_counter()
            body = {"query_embeddings": vector, "n_results": NEIGHBOURS, "include": ["distances"]}
            chroma.call("POST", f"{CHROMA_PATH}/{collection}/query", body)
            asked = time.perf_counter()
            answer = orjson.loads(service.call("GET", path))
            end = time.perf_counter()
            if answer["degraded_mode"] or answer["cache_hit"] or not answer["results"]:
                raise SystemExit(f"not an uncached hybrid answer: {answer['degraded_reason']}")
            if turn >= 20:  # the first ones warm up both sides
                embedding.append((embedded - start) * 1000)
                parts.append((asked - start) * 1000)
                whole.append((end - asked) * 1000)
        return embedding, parts, whole

    async def flood(self, paths: Iterator[str], is_over: Callable[[int, float], bool]) -> Flood:
        """CALLERS connections, each asking again as soon as it has its answer."""
        clients = [await Client(self._service.url).open() for _ in range(CALLERS)]
        count, before = 0, (self._service.cpu_seconds(), self._chroma.cpu_seconds())
        start = time.perf_counter()

        async def ask(client: Client) -> None:
            nonlocal count
            while not is_over(count, time.perf_counter() - start):
                count += 1
                await client.get(next(paths))

        await asyncio.gather(*map(ask, clients))
        seconds = time.perf_counter() - start
        after = self._service.cpu_seconds(), self._chroma.cpu_seconds()
        for client in clients:
            client.close()
        return Flood(count, seconds, after[0] - before[0], after[1] - before[1])

    async def uncached(self) -> Flood:
        paths = (query_path(self.fresh()) for _ in itertools.count())
        return await self.flood(paths, lambda _count, seconds: seconds > self._plan.seconds)

    async def cached(self) -> Flood:
        popular = [query_path(self.fresh()) for _ in range(POPULAR)]
        await self.flood(iter([*popular, *popular[:CALLERS]]), lambda count, _seconds: count >= POPULAR)
        limit = self._plan.cached_requests
        return await self.flood(itertools.cycle(popular), lambda count, _seconds: count >= limit)

    async def constant_rate(self, per_second: float) -> list[float]:
        """Milliseconds from the instant at which each query was due to its answer."""
        free: asyncio.Queue[Client] = asyncio.Queue()
        clients = [await Client(self._service.url).open() for _ in range(CONNECTIONS)]
        for client in clients:
            free.put_nowait(client)
        latencies: list[float] = []
        count = int(per_second * self._plan.seconds)
        paths = [query_path(self.fresh()) for _ in range(count)]
        start = time.perf_counter()

        async def ask(path: str, due: float) -> None:
            client = await free.get()
            await client.get(path)
            free.put_nowait(client)
            latencies.append((time.perf_counter() - due) * 1000)

        async with asyncio.TaskGroup() as tasks:
            for number, path in enumerate(paths):
                due = start + number / per_second
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                tasks.create_task(ask(path, due))
        for client in clients:
            client.close()
        return latencies


def results_of(bench: Bench) -> tuple[list[Result], dict[str, Any]]:
    embedding, parts, whole = bench.take_turns()
    base, ours = percentiles(parts), percentiles(whole)
    uncached = asyncio.run(bench.uncached())
    cached = asyncio.run(bench.cached())
    rate = uncached.per_second / 2
    loaded = percentiles(asyncio.run(bench.constant_rate(rate)))
    peer = "embedding + Chroma, P50"
    results = [
        relative("uncached hybrid, one caller, P50", ours.p50, base.p50, "ms", peer, at_most=1.5, aim=1.2),
        relative("uncached hybrid, one caller, P99", ours.p99, base.p99, "ms", "embedding + Chroma, P99"),
        plain("uncached hybrid, most a second", uncached.per_second, "/s"),
        plain("cached, most a second", cached.per_second, "/s"),
        relative(
            "cached answers per core-second", cached.per_core, uncached.per_core, "", "uncached", at_least=15, aim=30
        ),
        relative(
            f"P99 at {rate:.0f}/s, half of the most, uncached", loaded.p99, base.p50, "ms", peer, at_most=6, aim=3
        ),
    ]  # fmt: skip
    details = {
        "embedding_ms": _shown(percentiles(embedding)),
        "embedding_and_chroma_ms": _shown(base),
        "uncached_ms": _shown(ours),
        "half_rate_ms": _shown(loaded),
        "uncached_flood": vars(uncached),
        "cached_flood": vars(cached),
    }
    return results, details


def _shown(values: Percentiles) -> dict[str, float]:
    return {name: round(value, 2) for name, value in vars(values).items()}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer of everything; the figures are rougher")
    plan = QUICK if parser.parse_args().quick else Plan()
    folder = FOLDER / f"service-{plan.documents}"
    folder.mkdir(parents=True, exist_ok=True)
    chroma_url, service_url = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    with contextlib.ExitStack() as running:
        chroma = running.enter_context(_chroma(folder, chroma_url))
        service = running.enter_context(_service(folder, service_url, chroma_url))
        bench = Bench(service, chroma, plan)
        bench.fill()
        results, details = results_of(bench)
    for name, values in details.items():
        print(f"{name}: {values}")
    return finish("service", results, details)


def _chroma(folder: Path, url: str) -> contextlib.AbstractContextManager[Program]:
    port = url.rpartition(":")[2]
    arguments = ["chroma", "run", "--path", str(folder / "chroma"), "--host", "127.0.0.1", "--port", port]
    return program("Chroma", arguments, folder / "chroma.log", url, "/api/v2/heartbeat")


def _service(folder: Path, url: str, chroma_url: str) -> contextlib.AbstractContextManager[Program]:
    arguments = ["knowledgebeast", "serve", "--port", url.rpartition(":")[2], "--rate-limit-per-minute", "0"]
    # On a busy machine a slow answer is a figure; a degraded one would be no answer to the question.
    arguments += ["--chroma-timeout-seconds", "30"]
    arguments += ["--data-dir", str(folder / "data"), "--chroma-url", chroma_url]
    return program("the service", arguments, folder / "service.log", url, "/readyz")


if __name__ == "__main__":
    sys.exit(main())
