"""Busy writers on one database file: how long an acknowledged write waits, against SQLite's own waiting.

Each writer sends its next write as soon as the last one is acknowledged. `processes` has one writer in each of eight
processes, `tasks` 64 in one process, `both` eight in each of four. The control has eight processes that take turns by
SQLite's busy handler alone. All write the same documents, with `synchronous=FULL`.

    uv run python benchmarks/writers.py --seconds 10
"""

import argparse
import asyncio
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import apsw

from knowledgebeast_service.errors import DatabaseBusyError
from knowledgebeast_service.ingest.prepare import IncomingDocument, inspect_document, prepare
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.documents import upsert_documents
from knowledgebeast_service.storage.records import PreparedDocument
from report import finish, percentiles, plain, relative

LIMIT_MILLISECONDS = 250
DEADLINE_SECONDS = 5.0
DOCUMENT = " ".join(f"Sentence {number} of a document speaks of subject {number * 7 % 31}." for number in range(60))


@dataclass(frozen=True)
class Waits:
    """Seconds from the call to the acknowledgement, of all writers of a case; `refused` counts answers of 503."""

    case: str
    writers: int
    seconds: float
    waits: tuple[float, ...]
    refused: int

    @property
    def milliseconds(self) -> list[float]:
        return [1000 * wait for wait in self.waits]

    def summary(self) -> dict[str, object]:
        return {
            "case": self.case,
            "writers": self.writers,
            "writes": len(self.waits),
            "writes_per_second": round(len(self.waits) / self.seconds, 1),
            "milliseconds": asdict(percentiles(self.milliseconds)),
            "over_250_ms": sum(wait > LIMIT_MILLISECONDS for wait in self.milliseconds),
            "refused": self.refused,
        }


def _document(writer: str, number: int) -> PreparedDocument:
    incoming = IncomingDocument(f"{DOCUMENT} {writer} {number}", id=f"{writer}-{number}")
    return prepare(inspect_document(incoming), lambda _texts: None)


async def _write_until(database: Database, writer: str, end: float) -> tuple[list[float], int]:
    waits: list[float] = []
    refused = number = 0
    while time.monotonic() < end:
        document = _document(writer, number)
        number += 1
        started = time.perf_counter()
        try:
            await database.write(lambda connection, one=document: upsert_documents(connection, "p", [one]))
        except DatabaseBusyError:
            refused += 1
        else:
            waits.append(time.perf_counter() - started)
    return waits, refused


def _service_process(path: Path, name: str, tasks: int, seconds: float) -> tuple[list[float], int]:
    async def run() -> tuple[list[float], int]:
        end = time.monotonic() + seconds
        found = await asyncio.gather(*(_write_until(database, f"{name}.{task}", end) for task in range(tasks)))
        return [wait for waits, _ in found for wait in waits], sum(refused for _, refused in found)

    database = Database(path, deadline_seconds=DEADLINE_SECONDS)
    database.open()
    try:
        return asyncio.run(run())
    finally:
        database.close()


def _control_process(path: Path, name: str, _tasks: int, seconds: float) -> tuple[list[float], int]:
    connection = Connection(path)
    connection.execute(f"PRAGMA busy_timeout = {int(DEADLINE_SECONDS * 1000)}")
    waits: list[float] = []
    refused = number = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        document = _document(name, number)
        number += 1
        started = time.perf_counter()
        try:
            connection.execute("BEGIN IMMEDIATE")
            upsert_documents(connection, "p", [document])
            connection.execute("COMMIT")
        except apsw.BusyError:
            refused += 1
        else:
            waits.append(time.perf_counter() - started)
    connection.close()
    return waits, refused


Worker = Callable[[Path, str, int, float], tuple[list[float], int]]


def measure(case: str, worker: Worker, processes: int, tasks: int, seconds: float) -> Waits:
    """Run a case on a fresh database."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "knowledgebeast.db"
        database = Database(path)
        database.open()
        database.write_now(lambda connection: upsert_documents(connection, "p", [_document("first", 0)]))
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            jobs = [(path, f"w{number}", tasks, seconds) for number in range(processes)]
            found = pool.starmap(worker, jobs, chunksize=1)
        database.close()
    waits = tuple(wait for one, _ in found for wait in one)
    return Waits(case, processes * tasks, seconds, waits, sum(refused for _, refused in found))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10, help="length of each case")
    seconds = parser.parse_args().seconds
    control = measure("control", _control_process, 8, 1, seconds)
    processes = measure("processes", _service_process, 8, 1, seconds)
    tasks = measure("tasks", _service_process, 1, 64, seconds)
    both = measure("both", _service_process, 4, 8, seconds)
    peer = percentiles(control.milliseconds)
    ours = percentiles(processes.milliseconds)
    results = [
        relative("8 processes, P99 of a wait", ours.p99, peer.p99, "ms", "SQLite's busy handler", at_most=1),
        relative("8 processes, longest wait", ours.max, peer.max, "ms", "SQLite's busy handler", at_most=1),
        *(
            plain(f"{one.writers} writers ({one.case}), longest wait", max(one.milliseconds), "ms", at_most=250)
            for one in (processes, tasks, both)
        ),
    ]
    return finish("writers", results, [one.summary() for one in (control, processes, tasks, both)])


if __name__ == "__main__":
    sys.exit(main())
