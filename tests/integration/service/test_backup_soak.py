"""Backups under writes and searches: each is restored and checked. On demand: `make backup-soak BACKUPS=200`."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest

from backup_world import WORDS, prepared, put, random_text
from knowledgebeast_service.maintenance.backups.create import NICENESS, backup
from knowledgebeast_service.maintenance.backups.drill import drill
from knowledgebeast_service.maintenance.backups.retention import Retention
from knowledgebeast_service.storage import outbox
from knowledgebeast_service.storage.database import Database

if TYPE_CHECKING:
    from conftest import Service

BACKUPS = int(os.environ.get("BACKUPS", "15"))
IS_LONG = BACKUPS >= 100
DOCUMENTS = int(os.environ.get("BACKUP_SOAK_DOCUMENTS", "8000" if IS_LONG else "1500"))
WRITES_A_SECOND = 200.0
FEWEST_WRITES_A_SECOND = 150.0  # a soak under less proves less than it says
QUERIES_A_SECOND = 50.0
KEPT_SETS = 5  # of the soak; the disk is not what is tested
MOST_TIMES_SLOWER = 1.5
MEBIBYTE = 1 << 20


@dataclass
class Beside:
    """Something done at a constant rate in a thread until the end; (when it was due, seconds until it was done)."""

    work: Callable[[int], object]
    rate: float
    done: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    errors: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        due = time.monotonic()
        number = 0
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            try:
                self.work(number)
            except Exception as error:
                self.errors.append(f"{type(error).__name__}: {error}")
            self.done.append((due, time.monotonic() - due))
            number, due = number + 1, due + 1 / self.rate

    def __enter__(self) -> Beside:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def milliseconds(samples: list[float], percent: float) -> float:
    return round(1000 * float(np.percentile(samples, percent)), 2)


@pytest.mark.timeout(300 + 10 * BACKUPS)
def test_every_backup_under_writes_is_good_and_searches_go_on(
    make_service: Callable[..., Service], module_path: Path, tmp_path: Path
) -> None:
    data = module_path / "soak"
    backups = module_path / "soak-backups"
    backups.mkdir()
    # Without a model nothing is embedded: what is measured is the database, and the keyword index that follows it.
    service = make_service("soak", MODEL_DIR=str(tmp_path), BACKUP_DIR=str(backups), ENABLE_MEMORY_PROFILING="false")
    chosen = random.Random(1)
    database = Database(data / "knowledgebeast.db")
    database.open()
    for start in range(0, DOCUMENTS, 500):
        put(database, "p", [prepared(f"d{n}", random_text(chosen, 150)) for n in range(start, start + 500)])
    service.start()
    client = httpx.Client(base_url=service.url, timeout=30)
    queries = random.Random(2)

    def write(_number: int) -> None:
        name = f"d{chosen.randrange(DOCUMENTS)}"
        put(database, "p", [prepared(name, random_text(chosen, 150))])

    def ask(_number: int) -> None:
        words = " ".join(queries.sample(WORDS, 3))
        client.get("/api/v1/query/p", params={"q": words, "mode": "keyword"}).raise_for_status()

    windows: list[tuple[float, float]] = []
    peaks: list[int] = []
    spawn = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(1, mp_context=spawn, initializer=os.nice, initargs=(NICENESS,)) as beside,
        Beside(write, WRITES_A_SECOND) as writing,
        Beside(ask, QUERIES_A_SECOND) as asking,
    ):
        beside.submit(os.getpid).result()  # started and imported
        time.sleep(1)
        written, began = len(writing.done), time.monotonic()
        for number in range(BACKUPS):
            acknowledged = database.read_now(outbox.head)
            started = time.monotonic()
            making = beside.submit(backup, database.path, backups, f"soak-{number}", Retention(KEPT_SETS / 86_400, 0))
            result = making.result()
            ended = time.monotonic()
            assert result.ok, result
            seq = result.measured["seq"]
            assert isinstance(seq, int)
            assert acknowledged <= seq <= database.read_now(outbox.head)
            windows.append((started, ended))
            peaks.append(int(str(result.measured["log_bytes_peak"])))
            time.sleep(ended - started)  # as long without, to compare with
            restored = beside.submit(drill, backups, tmp_path / "scratch", f"soak-{number}").result()
            assert restored.ok, restored
            assert restored.measured["backup_id"] == result.measured["backup_id"]
            assert restored.measured["skipped"] == []
        writes_a_second = round((len(writing.done) - written) / (time.monotonic() - began), 1)
    client.close()
    database.close()
    assert not writing.errors
    assert not asking.errors
    during = [took for due, took in asking.done if any(start <= due < end for start, end in windows)]
    without = [took for due, took in asking.done if any(end <= due < 2 * end - start for start, end in windows)]
    ratio = round(milliseconds(during, 99) / milliseconds(without, 99), 2)
    summary = {
        "backups": BACKUPS,
        "database_mib": round((data / "knowledgebeast.db").stat().st_size / MEBIBYTE, 1),
        "writes_a_second": writes_a_second,
        "seconds_of_a_backup": round(float(np.median([end - start for start, end in windows])), 2),
        "queries": [len(during), len(without)],
        "query_p50_ms": [milliseconds(during, 50), milliseconds(without, 50)],
        "query_p99_ms": [milliseconds(during, 99), milliseconds(without, 99)],
        "query_p99_ratio": ratio,
        "write_p99_ms": milliseconds([took for _, took in writing.done], 99),
        "largest_log_mib": round(max(peaks) / MEBIBYTE, 2),
        "bad": 0,
    }
    print(json.dumps(summary), flush=True)
    assert max(peaks) <= 64 * MEBIBYTE
    if IS_LONG:
        assert ratio <= MOST_TIMES_SLOWER
        assert writes_a_second >= FEWEST_WRITES_A_SECOND
