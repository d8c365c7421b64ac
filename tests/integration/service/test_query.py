"""The query routes over HTTP: single, batch, highlights, and what the OpenAPI document says of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from conftest import Service

FOX = "The quick brown fox, and the other Foxes."


@pytest.fixture(scope="module")
def service(make_service: Callable[..., Service]) -> Service:
    started = make_service("queries", CHROMA_TIMEOUT_SECONDS="5")
    started.start()
    assert started.ingest("demo", {"fox": FOX, "dog": "A lazy dog."})["results"]
    return started


def post(service: Service, path: str, body: Any) -> httpx.Response:
    return httpx.post(service.url + path, json=body, timeout=30)


def without_time(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name not in ("took_ms", "cache_hit")}


def test_the_words_that_match_are_marked(service: Service) -> None:
    [best, *_] = service.query("demo", "fox")["results"]
    assert [best["text"][start:end] for start, end in best["highlights"]] == ["fox", "Foxes"]
    assert "highlights" not in service.query("demo", "fox", highlight=False)["results"][0]


def test_a_cached_answer_is_the_same_with_other_flags(service: Service) -> None:
    first, second = service.query("demo", "lazy"), service.query("demo", " LAZY ")
    assert (first["cache_hit"], second["cache_hit"]) == (False, True)
    assert without_time(first) | {"query": "LAZY"} == without_time(second)


def test_a_batch_answers_each_query_in_order_and_a_bad_one_alone_fails(service: Service) -> None:
    queries = [{"query": "fox", "top_k": 1}, {"query": ""}, {"query": "dog", "mode": "keyword"}, {"text": "x"}]
    response = post(service, "/api/v1/query/demo/batch", {"queries": queries})
    assert response.status_code == 200
    fox, empty, dog, unknown = response.json()
    assert [one["document_id"] for one in fox["results"]] == ["fox"]
    assert [one["document_id"] for one in dog["results"]] == ["dog"]
    assert (empty["status"], empty["errors"][0]["field"]) == (422, "body.queries.1.query")
    assert {error["field"] for error in unknown["errors"]} == {"body.queries.3.query", "body.queries.3.text"}


def test_a_batch_of_an_unknown_project_says_so_for_each(service: Service) -> None:
    answers = post(service, "/api/v1/query/nowhere/batch", {"queries": [{"query": "x"}] * 2}).json()
    assert [one["status"] for one in answers] == [404, 404]


@pytest.mark.parametrize("queries", [[], [{"query": "x"}] * 101, "x", None])
def test_a_batch_has_bounds(service: Service, queries: Any) -> None:
    response = post(service, "/api/v1/query/demo/batch", {"queries": queries})
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"


def test_what_is_not_json_is_a_bad_request(service: Service) -> None:
    url, headers = f"{service.url}/api/v1/query/demo", {"content-type": "application/json"}
    response = httpx.post(url, content=b'{"query": ', headers=headers, timeout=30)
    assert (response.status_code, response.json()["errors"][0]["field"]) == (400, "body")


def test_problems_name_the_parameter_as_the_caller_wrote_it(service: Service) -> None:
    problem = service.get("/api/v1/query/demo", q=" ", top_k=0).json()
    assert {error["field"] for error in problem["errors"]} == {"query.q", "query.top_k"}


def test_the_openapi_document_describes_what_the_routes_check(service: Service) -> None:
    paths = service.get("/openapi.json").json()["paths"]
    get = paths["/api/v1/query/{project}"]["get"]
    assert {one["name"] for one in get["parameters"]} == {
        "project", "q", "top_k", "offset", "mode", "min_seq", "highlight"
    }  # fmt: skip
    body = paths["/api/v1/query/{project}"]["post"]["requestBody"]["content"]["application/json"]
    assert set(body["schema"]["properties"]) == {
        "query", "top_k", "offset", "mode", "min_seq", "filter", "highlight"
    }  # fmt: skip
    assert post(service, "/api/v1/query/demo", body["example"]).status_code == 200
    batch = paths["/api/v1/query/{project}/batch"]["post"]["requestBody"]["content"]["application/json"]
    assert all("results" in one for one in post(service, "/api/v1/query/demo/batch", batch["example"]).json())
