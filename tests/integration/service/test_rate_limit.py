"""One allowance for a client, over two real replicas on one volume."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from knowledgebeast_service.api.keys import new_key

if TYPE_CHECKING:
    from conftest import Service


@pytest.fixture
def replicas(make_service: Callable[..., Service], tmp_path: Path) -> Callable[..., list[Service]]:
    def make(**settings: str) -> list[Service]:
        common = {"CHROMA_URL": "http://127.0.0.1:9", "RATE_LIMIT_PER_MINUTE": "100"} | settings
        started = [make_service(str(tmp_path / "data"), **common) for _ in range(2)]
        for service in started:
            service.start()
        return started

    return make


Headers = Callable[[int], dict[str, str]]


def let_through(services: list[Service], per_minute: int, headers: Headers) -> tuple[int, httpx.Response]:
    """Ask by turns until refused: (requests let through, beyond what was earned meanwhile; the refusal)."""
    with httpx.Client() as client:
        started = time.monotonic()
        for number in range(per_minute * 3):
            url = f"{services[number % len(services)].url}/api/v1/projects"
            response = client.get(url, headers=headers(number))
            if response.status_code == 429:
                earned = (time.monotonic() - started) * per_minute / 60
                return number - math.ceil(earned), response
    raise AssertionError(f"{per_minute * 3} requests were let through")


def test_the_101st_request_over_two_replicas_is_refused(replicas: Callable[..., list[Service]]) -> None:
    """Spread by turns, and under a new X-Forwarded-For each time, which nobody has vouched for."""
    services = replicas()
    through, refused = let_through(services, 100, lambda number: {"x-forwarded-for": f"10.1.1.{number}"})
    assert through <= 100
    assert refused.headers["content-type"] == "application/problem+json"
    assert int(refused.headers["retry-after"]) >= 1
    assert [service.metric("kb_rate_limit_shared") for service in services] == [1, 1]
    assert all(service.log.read_text().count("set TRUSTED_PROXIES") <= 1 for service in services)


def test_two_keys_do_not_share_and_guesses_at_keys_are_limited(
    replicas: Callable[..., list[Service]], tmp_path: Path
) -> None:
    made = [new_key(name, ["read"], ["*"], None) for name in ("one", "two")]
    (tmp_path / "keys.json").write_text(f"[{','.join(entry for _, entry in made)}]")
    services = replicas(API_KEYS_FILE=str(tmp_path / "keys.json"), RATE_LIMIT_PER_MINUTE="20")
    first, second = ({"authorization": f"Bearer {key}"} for key, _ in made)
    assert let_through(services, 20, lambda _: first)[0] <= 20
    with httpx.Client() as client:
        answers = [client.get(f"{services[0].url}/api/v1/projects", headers=second).status_code for _ in range(20)]
    assert set(answers) == {200}
    assert let_through(services, 20, lambda number: {"x-api-key": f"kb_guess{number}"})[0] <= 20


def test_a_replica_that_is_stopped_or_killed_does_not_stop_the_other(replicas: Callable[..., list[Service]]) -> None:
    stopped, going_on = replicas()
    assert stopped.running is not None
    stopped.send(signal.SIGSTOP)
    assert [going_on.status("/api/v1/projects") for _ in range(10)] == [200] * 10
    os.kill(stopped.running.pid, signal.SIGKILL)
    assert [going_on.status("/api/v1/projects") for _ in range(10)] == [200] * 10
