"""The admin port's application, beside the API's."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from knowledgebeast_service.api.admin import create_admin_app
from knowledgebeast_service.api.admin_token import NAME, AdminToken
from knowledgebeast_service.live_settings import LiveSettingsSource
from knowledgebeast_service.main import create_app
from knowledgebeast_service.settings import LiveSettings, Settings


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    settings = Settings(data_dir=tmp_path, model_dir=tmp_path / "absent", chroma_url="http://127.0.0.1:9")
    with TestClient(create_app(settings)) as running:
        yield running


@pytest.fixture
def api(client: TestClient) -> FastAPI:
    return cast("FastAPI", client.app)


@pytest.fixture
def admin(client: TestClient, api: FastAPI) -> TestClient:
    """In the event loop of the API, as in a process."""
    admin = TestClient(create_admin_app(api))
    admin.portal = client.portal
    return admin


@pytest.fixture
def bearer(tmp_path: Path) -> dict[str, str]:
    return {"authorization": f"Bearer {AdminToken(tmp_path).ensure()}"}


def test_nothing_is_told_without_the_token(admin: TestClient, bearer: dict[str, str]) -> None:
    token = bearer["authorization"].removeprefix("Bearer ")
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": token}, {"x-api-key": token}):
        for path in ("/admin/v1/settings", "/admin/v1/absent", "/openapi.json"):
            response = admin.get(path, headers=headers)
            assert response.status_code in (401, 429)
            assert response.headers["content-type"] == "application/problem+json"
    assert admin.get("/admin/v1/settings", headers=bearer).status_code == 200


def test_guesses_are_slowed_down_and_the_right_token_is_not(admin: TestClient, bearer: dict[str, str]) -> None:
    statuses = [admin.get("/admin/v1/settings").status_code for _ in range(15)]
    assert statuses.count(401) == 10
    assert statuses[-1] == 429
    assert admin.get("/admin/v1/settings", headers=bearer).status_code == 200


def test_the_api_knows_no_admin_calls(api: FastAPI, bearer: dict[str, str]) -> None:
    assert TestClient(api).get("/admin/v1/settings", headers=bearer).status_code == 404


def test_settings_are_pushed_whole_or_not_at_all(api: FastAPI, admin: TestClient, bearer: dict[str, str]) -> None:
    pushed = {"RATE_LIMIT_PER_MINUTE": 7, "query_cache_size": 3, "FUTURE_SETTING": 1}
    response = admin.put("/admin/v1/settings", json=pushed, headers=bearer)
    assert response.status_code == 200, response.text
    assert response.json()["ignored"] == ["FUTURE_SETTING"]
    assert admin.get("/admin/v1/settings", headers=bearer).json()["settings"]["RATE_LIMIT_PER_MINUTE"] == 7
    assert api.state.components.limits().query_cache_size == 3
    refused = admin.put("/admin/v1/settings", json={"RATE_LIMIT_PER_MINUTE": 9, "LOG_LEVEL": "loud"}, headers=bearer)
    assert refused.status_code == 422
    assert "log_level" in refused.text
    assert api.state.components.limits().rate_limit_per_minute == 7
    assert admin.put("/admin/v1/settings", json=[], headers=bearer).status_code == 422


def test_a_push_holds_until_the_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text('{"RATE_LIMIT_PER_MINUTE": 1}')
    source = LiveSettingsSource(LiveSettings(), file)
    source.poll()
    source.push({"RATE_LIMIT_PER_MINUTE": 2})
    source.poll()
    assert source.current.rate_limit_per_minute == 2
    file.write_text('{"RATE_LIMIT_PER_MINUTE":  3}')
    source.poll()
    assert source.current.rate_limit_per_minute == 3


def test_a_probe_asks_chroma_now(api: FastAPI, admin: TestClient, bearer: dict[str, str]) -> None:
    answer = admin.post("/admin/v1/probe", headers=bearer)
    assert answer.status_code == 200, answer.text
    assert answer.json()["components"]["chromadb"]["status"] == "down"
    assert api.state.components.vector_health.last_round is not None


def test_replicas_that_start_together_agree_on_one_token(tmp_path: Path) -> None:
    tokens: list[str] = []
    threads = [threading.Thread(target=lambda: tokens.append(AdminToken(tmp_path).ensure())) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tokens) == 16
    assert len(set(tokens)) == 1
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


@pytest.mark.parametrize("damage", [b"", b"short", b"\xff" * 40])
def test_a_damaged_token_is_made_anew(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / NAME).write_bytes(damage)
    token = AdminToken(tmp_path)
    made = token.ensure()
    assert token.matches(made)
    assert not token.matches(made[:-1])
    assert not token.matches("ä\ud800")
