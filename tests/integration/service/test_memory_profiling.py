"""A leak planted in a running service is named by file and line in its log, once the live setting asks for profiles."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conftest import Service

COMMAND = str(Path(sys.executable).parent / "knowledgebeast")
# Python imports a module of this name by itself; the line that leaks is the last one of the loop.
LEAK = """import threading, time
held = []
def leak():
    while True:
        time.sleep(0.02)
        held.append(bytes(200_000))
threading.Thread(target=leak, daemon=True).start()
"""
LEAKING_LINE = 6


def profiles(service: Service) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in service.log.read_text().splitlines() if "MEMORY_PROFILE" in line]
    return [line["memory_profile"] for line in lines if "memory_profile" in line]


def test_a_planted_leak_is_found_while_profiling_is_on(
    make_service: Callable[..., Service], tmp_path: Path, until: Callable[..., None]
) -> None:
    (tmp_path / "sitecustomize.py").write_text(LEAK)
    settings = tmp_path / "settings.json"
    settings.write_text("{}")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    service = make_service("leaking", SETTINGS_FILE=str(settings), PYTHONPATH=str(tmp_path), ADMIN_PORT=str(port))
    service.start()
    assert profiles(service) == []
    settings.write_text(json.dumps({"ENABLE_MEMORY_PROFILING": True, "PROFILE_INTERVAL_SECONDS": 1}))
    until(lambda: len(profiles(service)) >= 2, "two profiles are logged")
    last = profiles(service)[-1]
    assert last["grown"][0]["where"] == f"{tmp_path}/sitecustomize.py:{LEAKING_LINE}"
    assert last["grown"][0]["grown_bytes"] > 200_000
    assert set(last["caches"]) == {"query", "embedding"}
    settings.write_text(json.dumps({"ENABLE_MEMORY_PROFILING": False}))
    until(lambda: "memory profiling is off" in service.log.read_text(), "profiling goes off again")
    shown = subprocess.run(
        [COMMAND, "maintain", "heap-profile", "--admin-url", f"http://127.0.0.1:{port}", "--seconds", "1"],
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
        env=os.environ | {"DATA_DIR": service.environment["DATA_DIR"]},
    )
    assert json.loads(shown.stdout)["allocations"][0]["where"] == f"{tmp_path}/sitecustomize.py:{LEAKING_LINE}"
