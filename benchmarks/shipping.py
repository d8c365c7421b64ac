"""What shipping changes costs those who write: acknowledged writes a second and their P99, without, async and sync.

Writers send their next document as soon as the last one is acknowledged. The cases take turns, on the same disk; the
backup volume is a folder of it, so that both kinds of sync share one queue: on a volume of its own it costs less.

    uv run python benchmarks/shipping.py --seconds 5 --rounds 3
"""

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from knowledgebeast_service.ingest.prepare import IncomingDocument, inspect_document, prepare
from knowledgebeast_service.shipping.shipper import Shipper
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.documents import upsert_documents
from knowledgebeast_service.storage.records import PreparedDocument
from report import Result, finish, percentiles, plain, relative

DOCUMENT = " ".join(f"Sentence {number} of a document speaks of subject {number * 7 % 31}." for number in range(60))
CASES = ("none", "async", "sync")
WRITERS = (1, 16)
SYNC_SECONDS = 0.02
LOOK_SECONDS = 0.05


@dataclass
class Seen:
    """Of one case, over all rounds."""

    waits: list[float] = field(default_factory=list[float])
    seconds: float = 0.0
    largest_lag: float = 0.0

    @property
    def writes_a_second(self) -> float:
        return len(self.waits) / self.seconds


def _documents(count: int) -> list[PreparedDocument]:
    """Prepared beforehand: what is measured is storing."""
    texts = (IncomingDocument(f"{DOCUMENT} {number}", id=f"d{number}") for number in range(count))
    return [prepare(inspect_document(one), lambda _texts: None) for one in texts]


async def _case(folder: Path, case: str, writers: int, seconds: float, documents: list[PreparedDocument]) -> Seen:
    database = Database(folder / "data" / "knowledgebeast.db")
    database.open()
    backups = folder / "backups"
    await asyncio.to_thread(backups.mkdir)
    seen = Seen(seconds=seconds)
    async with contextlib.AsyncExitStack() as stack:
        if case != "none":
            shipper = Shipper(database, backups, SYNC_SECONDS if case == "sync" else 1.0)
            running = asyncio.create_task(shipper.run())
            watching = asyncio.create_task(_watch(database, shipper, seen))
            stack.callback(shipper.close)
            stack.callback(watching.cancel)
            stack.callback(running.cancel)
            if case == "sync":
                database.confirm = partial(shipper.wait_for, deadline_seconds=10)
        end = time.monotonic() + seconds
        await asyncio.gather(*(_write(database, number, writers, end, documents, seen) for number in range(writers)))
    database.close()
    return seen


async def _write(
    database: Database, first: int, step: int, end: float, documents: list[PreparedDocument], seen: Seen
) -> None:
    number = first
    while time.monotonic() < end:
        document = documents[number % len(documents)]
        number += step
        started = time.perf_counter()
        await database.write(lambda connection, one=document: upsert_documents(connection, "p", [one]))
        seen.waits.append(time.perf_counter() - started)


async def _watch(database: Database, shipper: Shipper, seen: Seen) -> None:
    while True:
        state = await database.read(shipper.state)
        if state.shipped_seq:
            seen.largest_lag = max(seen.largest_lag, state.lag_seconds)
        await asyncio.sleep(LOOK_SECONDS)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5, help="of each case in each round")
    parser.add_argument("--rounds", type=int, default=3, help="times that every case has its turn")
    arguments = parser.parse_args()
    documents = _documents(500)
    found = {(case, writers): Seen() for case in CASES for writers in WRITERS}
    for _ in range(arguments.rounds):
        for (case, writers), total in found.items():
            with tempfile.TemporaryDirectory(prefix="shipping-") as folder:
                seen = asyncio.run(_case(Path(folder), case, writers, arguments.seconds, documents))
            total.waits += seen.waits
            total.seconds += seen.seconds
            total.largest_lag = max(total.largest_lag, seen.largest_lag)
    return finish("shipping", _results(found))


def _results(found: dict[tuple[str, int], Seen]) -> list[Result]:
    results: list[Result] = []
    for writers in WRITERS:
        alone = found["none", writers]
        peer = percentiles([1000 * wait for wait in alone.waits])
        for case in ("async", "sync"):
            seen = found[case, writers]
            mine = percentiles([1000 * wait for wait in seen.waits])
            what = f"{writers} writers, {case}"
            bars = {"at_most": 1.5, "aim": 1.1} if case == "async" else {}
            results += [
                relative(f"{what}: P50", mine.p50, peer.p50, "ms", "not shipped"),
                relative(f"{what}: P99", mine.p99, peer.p99, "ms", "not shipped", **bars),
                relative(
                    f"{what}: time of a write",
                    1000 / seen.writes_a_second,
                    1000 / alone.writes_a_second,
                    "ms",
                    "not shipped",
                ),
                plain(f"{what}: largest lag", 1000 * seen.largest_lag, "ms"),
            ]
    return results


if __name__ == "__main__":
    sys.exit(main())
