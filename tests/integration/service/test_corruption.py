"""Incident 8 from the service's side: it notices, says so at once, acknowledges nothing, and comes back by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from knowledgebeast_service.storage.connection import Connection
from restore_world import flip_pages, pages_of

if TYPE_CHECKING:
    from conftest import Chroma, Service

COMMAND = str(Path(sys.executable).parent / "knowledgebeast")
CORRUPT = 'kb_database_errors_total{kind="corrupt"}'
NOTICED_SECONDS = 10.0
Until = Callable[..., None]


@pytest.fixture
def service(make_service: Callable[..., Service], chroma: Chroma, request: pytest.FixtureRequest) -> Service:
    """Without a model: keyword search and the queue are what this is about."""
    folder = request.node.name
    service = make_service(folder, CHROMA_URL=chroma.url, MODEL_DIR="/nowhere")
    service.start()
    return service


def database(service: Service) -> Path:
    return Path(service.environment["DATA_DIR"]) / "knowledgebeast.db"


def fill(service: Service) -> None:
    service.ingest("p", {f"d{n}": f"document {n} about otters {n * n}" for n in range(60)}, wait=False)


def maintain(service: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [COMMAND, "maintain", *arguments]
    environment = os.environ | {"DATA_DIR": service.environment["DATA_DIR"]}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def put(service: Service, text: str) -> httpx.Response:
    body = {"project": "p", "documents": [{"id": "after", "text": text}]}
    return httpx.post(f"{service.url}/api/v1/ingest", json=body, timeout=30)


def test_torn_pages_are_noticed_and_nothing_is_acknowledged_any_more(service: Service, until: Until) -> None:
    fill(service)
    path = database(service)
    with_all_pages = maintain(service, "check", "--attempt-id", "c1")
    assert with_all_pages.returncode == 0, with_all_pages.stdout
    connection = Connection(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    flip_pages(path, pages_of(path, "chunks"))
    started = time.monotonic()
    until(lambda: service.metric(CORRUPT) > 0, "the metric shows it", NOTICED_SECONDS)
    print(f"noticed after {time.monotonic() - started:.1f} s")
    health = service.get("/health").json()
    assert health["components"]["database"]["status"] == "down"
    assert health["components"]["database"]["reason"] == "corrupt"
    refused = put(service, "not to be acknowledged")
    assert refused.status_code == 503
    assert "damaged" in refused.json()["detail"]
    assert service.status("/livez") == 200


def test_a_lost_file_is_noticed_while_searches_are_still_answered(service: Service, until: Until) -> None:
    fill(service)
    database(service).unlink()
    until(lambda: service.metric(CORRUPT) > 0, "the metric shows it", NOTICED_SECONDS)
    assert service.get("/health").json()["components"]["database"]["damage"] == "missing"
    assert service.status("/readyz") == 200
    assert service.found("p", "otters", mode="keyword")
    assert put(service, "not to be acknowledged").status_code == 503


def test_a_restore_by_hand_brings_a_degraded_service_back_without_a_restart(service: Service, until: Until) -> None:
    fill(service)
    backed_up = maintain(service, "backup", "--attempt-id", "b1")
    assert backed_up.returncode == 0, backed_up.stdout
    service.kill()
    path = database(service)
    path.unlink()
    service.start(ready=False)
    until(lambda: service.status("/livez") == 200, "it starts all the same")
    assert service.status("/readyz") == 503
    assert service.metric(CORRUPT) > 0
    assert not path.exists()
    assert put(service, "not to be acknowledged").status_code == 503
    restored = maintain(service, "restore", "--attempt-id", "r1")
    assert restored.returncode == 0, restored.stdout
    assert "restore: swap" in restored.stderr
    until(service.is_ready, "it serves the restored file")
    assert len(service.found("p", "otters", mode="keyword", top_k=100)) == 60
    assert put(service, "acknowledged again").status_code == 202


def test_a_stopped_writer_holds_the_fence_and_gets_no_answer_when_it_is_ignored(service: Service, until: Until) -> None:
    fill(service)
    assert maintain(service, "backup", "--attempt-id", "b1").returncode == 0
    put(service, "written after the backup")
    service.send(signal.SIGSTOP)
    refused = maintain(service, "restore", "--attempt-id", "r1", "--backup", "latest", "--lock-wait-seconds", "1")
    assert '"reason": "WritersPresent"' in refused.stdout
    path = database(service)
    path.with_name(f"{path.name}.lock").unlink()  # as a volume that came with a new lock file
    restored = maintain(service, "restore", "--attempt-id", "r2", "--backup", "latest", "--only-backup")
    assert restored.returncode == 0, restored.stdout
    kept = path.read_bytes()
    service.send(signal.SIGCONT)
    answer = put(service, "into the old file")
    assert answer.status_code == 503, answer.text
    until(lambda: service.status("/livez") == 503, "a restart is asked for")
    service.send(signal.SIGTERM)
    until(lambda: service.exit_status() is not None, "it ends")
    assert path.read_bytes() == kept
