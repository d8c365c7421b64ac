"""1,000 documents under continuous updates: nothing grows that should not. On demand: `make soak SOAK_SECONDS=60`."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from conftest import Chroma, Service

SECONDS = float(os.environ.get("SOAK_SECONDS", "0"))
DOCUMENTS = 1000
UPDATES = 5  # documents in a request
REQUESTS_A_SECOND = 2.0
MEBIBYTE = 1 << 20
LARGEST_LOG_BYTES = 64 * MEBIBYTE
SPARE_DESCRIPTORS = 8  # connections of this client, and a reader that opened late
LARGEST_GROWTH = 0.1  # of resident memory, from the middle of the soak to its end


@dataclass(frozen=True)
class Sample:
    at: float
    resident_bytes: int
    descriptors: int
    log_bytes: int


@pytest.mark.skipif(SECONDS == 0, reason="on demand: make soak")
@pytest.mark.timeout(600 + 2 * SECONDS)
def test_updates_without_end_leave_nothing_behind(
    make_service: Callable[..., Service], chroma: Chroma, module_path: Path, until: Callable[..., None]
) -> None:
    service = make_service("soak", CHROMA_URL=chroma.url)
    service.launch()
    until(service.is_ready, "the service is ready", 180)
    source = random.Random(1)
    for start in range(0, DOCUMENTS, 100):
        service.ingest("soak", {f"d{n}": text(n, 0, source) for n in range(start, start + 100)}, wait=False)
    until(lambda: service.metric("kb_ingest_queue_documents") == 0, "the first load is indexed", 300)
    log = module_path / "soak" / "knowledgebeast.db-wal"
    samples: list[Sample] = []
    started, rounds = time.monotonic(), 0
    while (at := time.monotonic() - started) < SECONDS:
        rounds += 1
        numbers = source.sample(range(DOCUMENTS), UPDATES)
        service.ingest("soak", {f"d{n}": text(n, rounds, source) for n in numbers}, wait=False)
        assert f"d{numbers[0]}" in service.found("soak", f"edition{rounds}", mode="keyword", top_k=UPDATES)
        service.query("soak", f"news of sector {rounds % 50}")
        samples.append(sample(service, log, at))
        time.sleep(max(0.0, started + rounds / REQUESTS_A_SECOND - time.monotonic()))
    until(lambda: service.metric("kb_ingest_queue_documents") == 0, "the queue is empty", 120)
    assert len(service.found("soak", "bulletin", mode="keyword", top_k=100)) == 100
    halves = samples[len(samples) // 2 :]
    slope = float(np.polyfit([one.at for one in halves], [one.resident_bytes for one in halves], 1)[0])
    summary = {
        "seconds": SECONDS,
        "updates": rounds * UPDATES,
        "resident_mib": [round(one.resident_bytes / MEBIBYTE, 1) for one in (samples[0], halves[0], samples[-1])],
        "slope_kib_per_second": round(slope / 1024, 2),
        "descriptors": [samples[0].descriptors, max(one.descriptors for one in samples), samples[-1].descriptors],
        "largest_log_mib": round(max(one.log_bytes for one in samples) / MEBIBYTE, 2),
    }
    print(json.dumps(summary), flush=True)
    assert samples[-1].descriptors <= halves[0].descriptors + SPARE_DESCRIPTORS
    assert max(one.log_bytes for one in samples) <= LARGEST_LOG_BYTES
    assert samples[-1].resident_bytes <= halves[0].resident_bytes * (1 + LARGEST_GROWTH)


def text(number: int, edition: int, source: random.Random) -> str:
    return f"Bulletin {number}, edition{edition}: news of sector {source.randrange(50)} and of post {source.random()}."


def sample(service: Service, log: Path, at: float) -> Sample:
    assert service.running is not None
    process = Path("/proc") / str(service.running.pid)
    status = (process / "status").read_text(encoding="ascii")
    (resident,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    descriptors = len(list((process / "fd").iterdir()))
    return Sample(at, int(resident.split()[1]) * 1024, descriptors, log.stat().st_size)
