"""Whatever is killed, and whenever: nothing that was acknowledged is lost, nothing that was deleted comes back.

30 kills here; `make kill-campaign KILLS=300` runs the same for longer and says how it goes on.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from campaign_audit import Auditor
from campaign_client import Client, Quiet
from campaign_history import History
from campaign_kills import Killer
from knowledgebeast_service.search.kernel import compile_kernel
from warm_start import WarmStarter

if TYPE_CHECKING:
    from conftest import Chroma, Service

KILLS = int(os.environ.get("KILLS", "30"))
KILLS_SECONDS = float(os.environ.get("KILLS_SECONDS", "inf"))  # then the last audit, however many kills there were
SEED = int(os.environ.get("KILL_SEED", "1"))
KILLS_AN_AUDIT = 15
SAMPLE = 12  # documents asked for one by one in an audit between; at the end all are
CLIENTS = 4
DOCUMENTS_OF_A_CLIENT = 15  # in each project: all of them fit one page of 100 results


@pytest.fixture
def starter() -> Iterator[WarmStarter]:
    opened = WarmStarter()
    yield opened
    opened.close()


@pytest.mark.timeout(300 + 60 * KILLS)
async def test_no_kill_loses_or_brings_back_anything(
    make_service: Callable[..., Service], chroma: Chroma, module_path: Path, starter: WarmStarter
) -> None:
    replicas = [make_service(CHROMA_URL=chroma.url, INGEST_LEASE_SECONDS="2") for _ in range(2)]
    database = module_path / "data" / "knowledgebeast.db"
    history, quiet, source = History(), Quiet(), random.Random(SEED)
    victims = [Replica(one, starter) for one in replicas]
    killer = Killer(victims, chroma, database, chroma.folder, source, lambda: history.counts["acknowledged"])
    urls = tuple(one.url for one in replicas)
    auditor = Auditor(urls, chroma.url, database, history)
    # Kept for all processes to come: one that is killed while it compiles would leave the work to the next.
    await asyncio.to_thread(compile_kernel)
    for victim in victims:
        victim.launch()
    await killer.all_ready()
    started = time.monotonic()
    slowest = 0.0
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=50), timeout=60) as http:
        over = asyncio.Event()

        async def kill_all() -> None:
            nonlocal slowest
            for number in range(1, KILLS + 1):
                what = await killer.kill_once()
                say(f"kill {number}/{KILLS}, {time.monotonic() - started:.0f} s: {what}; {dict(history.counts)}")
                is_last = number == KILLS or time.monotonic() - started > KILLS_SECONDS
                if number % KILLS_AN_AUDIT == 0 or is_last:
                    await quiet.close()
                    await killer.all_ready()
                    sample = None if is_last else SAMPLE
                    slowest = max(slowest, await auditor.run(http, sample, source))
                    check_database(module_path / "data", f"after-{number}")
                    say(f"audit after {number}: {len(history.possible)} documents known, all well")
                    quiet.open()
                if is_last:
                    break
            over.set()

        async with asyncio.TaskGroup() as tasks:
            for number in range(CLIENTS):
                own = random.Random(f"{SEED} {number}")
                client = Client(f"c{number}", urls, history, http, quiet, own, DOCUMENTS_OF_A_CLIENT)
                tasks.create_task(client.run(over.is_set))
            tasks.create_task(kill_all())
    summary = {
        "kills": sum(killer.kills.values()),
        "seed": SEED,
        "seconds": round(time.monotonic() - started, 1),
        "by_kind": dict(sorted(killer.kills.items())),
        "requests": dict(sorted(history.counts.items())),
        "slowest_recovery_seconds": round(slowest, 1),
    }
    report(summary)
    assert history.counts["acknowledged"] > sum(killer.kills.values()), (
        "hardly anything was written: the campaign shows nothing"
    )
    assert history.counts["unknown"] > 0, "no kill hit a request: the campaign shows nothing"


class Replica:
    """A service to kill; its restarts are forks of one process that has imported everything."""

    def __init__(self, service: Service, starter: WarmStarter) -> None:
        self._service = service
        self._starter = starter
        self._pid: int | None = None

    def kill(self) -> None:
        if self._pid is not None:
            self._starter.kill(self._pid)
            self._pid = None

    def launch(self) -> None:
        self._pid = self._starter.serve(self._service.log, self._service.environment)

    def is_ready(self) -> bool:
        return self._service.is_ready()


def check_database(folder: Path, attempt: str) -> None:
    arguments = ["maintain", "check", "--data-dir", str(folder), "--attempt-id", attempt]
    command = [str(Path(sys.executable).parent / "knowledgebeast"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def report(summary: Mapping[str, object]) -> None:
    say(json.dumps(summary))
    if where := os.environ.get("KILLS_SUMMARY"):
        Path(where).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


def say(line: str) -> None:
    """Seen with `pytest -s`."""
    print(line, flush=True)
