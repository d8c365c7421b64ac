"""`maintain rebuild-collection` on a large project, against filling Chroma with the same vectors and nothing else.

The database is made with `--vectors` clustered vectors of 384 dimensions; a `chroma run` of its own holds the rest. The
peer sends the same batches from memory to another collection of the same server, in the same run.

    uv run python benchmarks/rebuild.py --vectors 100000
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

from knowledgebeast_service.errors import VectorStoreError  # noqa: E402
from knowledgebeast_service.maintenance.fill import BATCH, WRITE_SECONDS  # noqa: E402
from knowledgebeast_service.maintenance.rebuild import REBUILD, Rebuild, rebuild  # noqa: E402
from knowledgebeast_service.maintenance.result import TaskResult  # noqa: E402
from knowledgebeast_service.search.chroma_http import ChromaHttpStore  # noqa: E402
from knowledgebeast_service.search.placement import Collections  # noqa: E402
from knowledgebeast_service.search.vector_store import Matrix  # noqa: E402
from knowledgebeast_service.storage.database import Database  # noqa: E402
from knowledgebeast_service.telemetry.metrics import Metrics  # noqa: E402
from report import finish, plain, relative  # noqa: E402
from vector_seed import random_vectors, seed_project  # noqa: E402

MODEL = "0123456789abcdef"
SEED_BATCH = 5000
START_SECONDS = 60.0


def main(vectors: int, port: int) -> int:
    with tempfile.TemporaryDirectory(prefix="kb-rebuild-") as folder:
        path = Path(folder)
        chroma = Path(sys.executable).parent / "chroma"
        server = subprocess.Popen(
            [chroma, "run", "--path", path / "chroma", "--host", "127.0.0.1", "--port", str(port)],
            stdout=subprocess.DEVNULL,
        )
        database = Database(path / "knowledgebeast.db", deadline_seconds=60)
        database.open()
        try:
            alone, result = asyncio.run(_measure(database, f"http://127.0.0.1:{port}", vectors))
        finally:
            server.kill()
            server.wait()
            database.close()
    if not result.ok:
        raise SystemExit(f"the rebuild failed: {result}")
    seconds = float(str(result.measured["seconds"]))
    return finish(
        "rebuild",
        [
            plain(f"rebuild of {vectors:,} vectors", seconds, "s", at_most=180, aim=60),
            relative("rebuild", seconds, alone, "s", "sending the same batches to Chroma, one at a time"),
        ],
        details=result.measured,
    )


async def _measure(database: Database, url: str, vectors: int) -> tuple[float, TaskResult]:
    """(seconds to fill Chroma alone, the task's result)."""
    made = random_vectors(vectors)
    for start in range(0, vectors, SEED_BATCH):
        seed_project(database, "p", MODEL, made[start : start + SEED_BATCH], first=start)
    # As after the worker has published all of it to a collection that is lost by now.
    database.write_now(lambda connection: connection.execute("DELETE FROM ingest_queue"))
    store = ChromaHttpStore(url, Metrics())
    try:
        await _wait_for(store)
        alone = await _fill_alone(store, made)
        return alone, await rebuild(database, Collections(store, database), Rebuild(REBUILD, "p", "benchmark"))
    finally:
        await store.close()


async def _wait_for(store: ChromaHttpStore) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return await store.probe(1)
        except VectorStoreError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)


async def _fill_alone(store: ChromaHttpStore, made: Matrix) -> float:
    await store.create_collection("peer", WRITE_SECONDS)
    started = time.perf_counter()
    for start in range(0, len(made), BATCH):
        batch = made[start : start + BATCH]
        await store.upsert("peer", range(start, start + len(batch)), batch, WRITE_SECONDS)
    return time.perf_counter() - started


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--port", type=int, default=18731)
    options = parser.parse_args()
    sys.exit(main(options.vectors, options.port))
