"""The admin port of a real process: beside the API, behind the token on the volume, gone with it."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from conftest import Service


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_settings_are_pushed_over_the_admin_port_and_no_other(
    make_service: Callable[..., Service], module_path: Path, until: Callable[..., None]
) -> None:
    port = free_port()
    service = make_service("admin", ADMIN_PORT=str(port), CHROMA_URL="http://127.0.0.1:9")
    service.start()
    token = (module_path / "admin" / "admin-token").read_text().strip()
    bearer = {"authorization": f"Bearer {token}"}
    url = f"http://127.0.0.1:{port}/admin/v1/settings"
    assert httpx.get(url).status_code == 401
    assert httpx.get(f"{service.url}/admin/v1/settings", headers=bearer).status_code == 404
    pushed = httpx.put(url, json={"RATE_LIMIT_PER_MINUTE": 1}, headers=bearer)
    assert pushed.status_code == 200, pushed.text
    assert [service.status("/api/v1/projects") for _ in range(3)][-1] == 429
    service.send(signal.SIGTERM)
    until(lambda: service.exit_status() is not None, "the process has ended", 20)
    assert service.exit_status() == 0
    assert "Traceback" not in service.log.read_text()


def test_a_taken_admin_port_does_not_keep_the_service_from_serving(make_service: Callable[..., Service]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = str(listener.getsockname()[1])
        service = make_service("taken", ADMIN_PORT=taken, CHROMA_URL="http://127.0.0.1:9")
        service.start()
    assert "set ADMIN_PORT" in service.log.read_text()
    assert service.status("/api/v1/projects") == 200
