"""Requests that make no sense, to the running service: 4xx as problem+json (RFC 9457), and it serves on."""

import json

import httpx
import pytest

from harness.library import PROJECT, Library

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

QUERY = f"/api/v1/query/{PROJECT}"
INGEST = "/api/v1/ingest"
ELEVEN_MEGABYTES = json.dumps({"project": PROJECT, "documents": [{"text": "x" * 11_000_000}]}).encode()


def document(**fields: object) -> bytes:
    return json.dumps({"project": PROJECT, "documents": [fields]}).encode()


REQUESTS: dict[str, tuple[str, str, dict[str, str], bytes | None, int]] = {
    "no query": ("GET", QUERY, {}, None, 422),
    "an empty query": ("GET", QUERY, {"q": "   "}, None, 422),
    "a query that is too long": ("GET", QUERY, {"q": "x" * 1001}, None, 422),
    "too many results": ("GET", QUERY, {"q": "tides", "top_k": "100000"}, None, 422),
    "a mode that does not exist": ("GET", QUERY, {"q": "tides", "mode": "magic"}, None, 422),
    "a project with a path in it": ("GET", "/api/v1/query/..%2f..%2fetc", {"q": "x"}, None, 404),
    "a project with a blank in it": ("GET", "/api/v1/query/a%20b", {"q": "x"}, None, 422),
    "a project that nobody made": ("GET", "/api/v1/query/nobody", {"q": "x"}, None, 404),
    "broken JSON": ("POST", INGEST, {}, b'{"project":', 400),
    "no documents": ("POST", INGEST, {}, b'{"project": "library"}', 422),
    "a document without text": ("POST", INGEST, {}, document(id="1"), 422),
    "a body that is too large": ("POST", INGEST, {}, ELEVEN_MEGABYTES, 413),
    "a path that does not exist": ("GET", "/api/v1/none", {}, None, 404),
    "a method that is not allowed": ("DELETE", INGEST, {}, None, 405),
}


@pytest.mark.parametrize("what", REQUESTS)
def test_is_refused_with_a_problem(library: Library, what: str) -> None:
    method, path, params, content, status = REQUESTS[what]
    headers = {"content-type": "application/json"}
    with httpx.Client(base_url=library.url, timeout=30, trust_env=False) as client:
        answer = client.request(method, path, params=params, content=content, headers=headers)

    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    problem = answer.json()
    assert problem["status"] == status
    assert problem["title"]


def test_the_service_is_well_afterwards(library: Library) -> None:
    assert library.client.health().status == "ok"
    assert "tides" in library.client.search("What makes the sea rise and fall twice a day?").documents
