"""Caches are filled over the admin port with what was asked most, also by the process that asked nothing."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Service

QUESTIONS = ["fox", "fox", "lazy dog", "lazy dog", "owl"]


def maintain_warm(data: Path, port: int, *arguments: str) -> tuple[int, dict[str, Any]]:
    command = [str(Path(sys.executable).parent / "knowledgebeast"), "maintain", "warm", "--data-dir", str(data)]
    command += ["--admin-url", f"http://127.0.0.1:{port}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=140, check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout) if done.stdout else {"error": done.stderr}


@pytest.mark.timeout(150)  # two services and two commands start
def test_after_a_restart_what_was_asked_most_is_answered_from_the_cache(
    make_service: Callable[..., Service], module_path: Path, tmp_path: Path
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    settings = {"ADMIN_PORT": str(port), "CHROMA_TIMEOUT_SECONDS": "5"}
    first = make_service("warm", **settings)
    first.start()
    first.ingest("demo", {"fox": "The quick brown fox.", "dog": "A lazy dog."})
    for text in QUESTIONS:
        first.query("demo", text)
    first.send(signal.SIGTERM)
    assert first.running is not None
    first.running.wait(30)

    second = make_service("warm", **settings)
    second.start()
    data = module_path / "warm"
    status, result = maintain_warm(data, port, "--top-queries", "2", "--attempt-id", "a1")
    assert (status, result["ok"], result["measured"]["asked"], result["measured"]["failed"]) == (0, True, 2, 0)
    assert second.query("demo", "fox")["cache_hit"]
    assert second.query("demo", "Lazy DOG")["cache_hit"]
    assert not second.query("demo", "owl")["cache_hit"]

    (tmp_path / "queries.txt").write_text("bee\n\nant\n", encoding="utf-8")
    _, result = maintain_warm(data, port, "--project", "demo", "--queries-file", str(tmp_path / "queries.txt"))
    assert result["measured"]["asked"] == 2
    assert second.query("demo", "ant")["cache_hit"]
