"""Several service processes on one database, and one that is killed between the answer and the indexing."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from conftest import Chroma, Loader, Service


DRAIN_SECONDS = 2.5
LOAD_SECONDS = 1.0  # load that arrives after the signal, well within the drain


@pytest.fixture(scope="module")
def pair(make_service: Callable[..., Service], chroma: Chroma, until: Callable[..., None]) -> tuple[Service, Service]:
    services = make_service(CHROMA_URL=chroma.url), make_service(CHROMA_URL=chroma.url)
    for service in services:
        service.start()
        until(lambda service=service: service.get("/health").json()["status"] == "ok", "every part is up")
    return services


def test_each_sees_what_the_other_wrote(pair: tuple[Service, Service], until: Callable[..., None]) -> None:
    first, second = pair
    seq = first.ingest("shared", {"a": "Lighthouses warn ships of rocks."})["seq"]
    assert second.found("shared", "lighthouse", mode="keyword", min_seq=seq) == ["a"]
    assert second.found("shared", "maritime navigation aid", mode="vector")[0] == "a"
    seq = second.ingest("shared", {"b": "Bees make honey."})["seq"]
    assert first.found("shared", "honey", mode="keyword", min_seq=seq) == ["b"]
    httpx.delete(f"{first.url}/api/v1/projects/shared/documents/a")
    until(lambda: second.found("shared", "lighthouse", mode="keyword") == [], "the deletion arrives", 5)
    assert second.metric("kb_index_lag") == 0


def test_a_min_seq_that_never_comes_is_a_503_in_bounded_time(pair: tuple[Service, Service]) -> None:
    pair[0].ingest("shared", {"c": "Something."}, wait=False)
    response = pair[0].get("/api/v1/query/shared", q="x", min_seq=10**9)
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert "min_seq" in response.json()["detail"]


async def test_writers_on_both_at_once_lose_nothing(pair: tuple[Service, Service], client: httpx.AsyncClient) -> None:
    async def write(number: int) -> None:
        body = {"project": "busy", "documents": [{"id": f"d{number}", "text": f"number{number} of many"}]}
        response = await client.post(f"{pair[number % 2].url}/api/v1/ingest", json=body)
        assert response.status_code == 202, response.text

    await asyncio.gather(*(write(number) for number in range(40)))
    for service in pair:
        listed = await client.get(f"{service.url}/api/v1/projects/busy/documents?limit=100")
        assert {one["id"] for one in listed.json()["documents"]} == {f"d{number}" for number in range(40)}


def test_killed_between_answer_and_indexing_loses_nothing(
    make_service: Callable[..., Service],
    chroma: Chroma,
    until: Callable[..., None],
) -> None:
    """Chroma is stopped, so nothing can be indexed when the service is killed right after its answer."""
    doomed = make_service("killed", CHROMA_URL=chroma.url)
    doomed.start()
    chroma.send(signal.SIGSTOP)
    try:
        documents = {f"d{number}": f"Fact {number}: the river is {number} miles long." for number in range(30)}
        doomed.ingest("rivers", documents, wait=False)
        doomed.kill()
    finally:
        chroma.send(signal.SIGCONT)
    heir = make_service("killed", CHROMA_URL=chroma.url)
    heir.start()
    assert len(heir.found("rivers", "river", mode="keyword", top_k=100)) == 30
    until(lambda: heir.metric("kb_ingest_queue_documents") == 0, "everything is indexed", 90)
    until(lambda: len(heir.found("rivers", "length of a stream", mode="vector", top_k=100)) == 30, "all found", 10)


async def test_a_rolling_restart_loses_no_request(
    make_service: Callable[..., Service],
    chroma: Chroma,
    load_during: Loader,
    until: Callable[..., None],
) -> None:
    """SIGTERM under load: not ready at once, serving until the drain is over, every request answered."""
    service = make_service(CHROMA_URL=chroma.url, DRAIN_SECONDS=str(DRAIN_SECONDS))
    service.start()
    service.ingest("shared", {"z": "Zebras have stripes."}, wait=False)

    async def leave() -> None:
        await asyncio.sleep(0.3)
        service.send(signal.SIGTERM)
        await asyncio.to_thread(until, lambda: service.status("/readyz") == 503, "not ready", 1.2)
        await asyncio.sleep(LOAD_SECONDS)

    load = await load_during(f"{service.url}/api/v1/query/shared?q=zebra+NUMBER", 30, leave)
    assert load.errors == []
    assert set(load.statuses) == {200}
    assert len(load.statuses) > 9
    until(lambda: service.exit_status() == 0, "it ends with status 0", 15)
