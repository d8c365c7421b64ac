"""What a client sees while Chroma hangs, dies, comes back, or comes back empty: never an error.

One service and one Chroma for the module; every test leaves them well.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from conftest import Chroma, Loader, Service


DOCUMENTS = {
    "fox": "The quick brown fox jumps over the lazy dog.",
    "paris": "Paris is the capital of France.",
    "tea": "Green tea contains less caffeine than coffee.",
    "rust": "The borrow checker of Rust prevents data races at compile time.",
    "moon": "The Moon's gravity causes the tides of the sea.",
}
DEADLINE_SECONDS = 0.5  # CHROMA_TIMEOUT_SECONDS of these tests
OVERHEAD_SECONDS = 0.7  # embedding, keyword search and a busy test machine


@pytest.fixture(scope="module")
def service(make_service: Callable[..., Service], chroma: Chroma) -> Service:
    started = make_service(CHROMA_URL=chroma.url)
    started.start()
    answer = started.ingest("demo", DOCUMENTS)
    assert answer["status"] == "indexed", answer
    return started


@pytest.fixture(autouse=True)
def _is_well_before_and_after(service: Service, until: Callable[..., None]) -> Iterator[None]:
    until(lambda: is_whole(service), "Chroma is up and the canaries pass")
    yield
    until(lambda: is_whole(service), "Chroma is up and the canaries pass")


def is_whole(service: Service) -> bool:
    return service.health("chromadb") == "up" and service.metric("kb_canary_success_ratio") == 1


def breaker_is_open(service: Service) -> bool:
    return service.metric("kb_chroma_breaker_state") > 0


def test_hybrid_finds_by_meaning_and_by_word(service: Service) -> None:
    answer = service.query("demo", "which French city is the seat of government")
    assert answer["results"][0]["document_id"] == "paris"
    assert not answer["degraded_mode"]
    assert service.found("demo", "borrow checker")[0] == "rust"
    assert service.found("demo", "seat of government", mode="keyword") == []
    assert service.found("demo", "seat of government", mode="vector")[0] == "paris"


def test_an_update_and_a_delete_reach_both_searches(service: Service, until: Callable[..., None]) -> None:
    service.ingest("changing", {"a": "Penguins live in Antarctica.", "b": "Camels live in deserts."})
    service.ingest("changing", {"a": "Volcanoes erupt lava."})
    for mode in ("keyword", "vector", "hybrid"):
        assert "a" not in service.found("changing", "penguins", mode=mode)[:1]
        assert service.found("changing", "lava volcano", mode=mode)[0] == "a"
    assert httpx.delete(f"{service.url}/api/v1/projects/changing/documents/a").status_code == 200
    for mode in ("keyword", "vector", "hybrid"):
        assert "a" not in service.found("changing", "lava volcano", mode=mode)
    assert httpx.delete(f"{service.url}/api/v1/projects/changing").status_code == 200
    assert service.get("/api/v1/query/changing", q="x").status_code == 404
    until(lambda: service.metric("kb_ingest_queue_documents") == 0, "the queue is empty")


async def test_a_hung_chroma_costs_completeness_and_never_an_answer(
    service: Service,
    chroma: Chroma,
    load_during: Loader,
    until: Callable[..., None],
) -> None:
    """SIGSTOP: the port accepts, nothing answers. Every query is a new one, so that no cache helps."""

    async def outage() -> None:
        chroma.send(signal.SIGSTOP)
        try:
            await asyncio.to_thread(until, lambda: breaker_is_open(service), "the breaker opens", 10)
            await asyncio.to_thread(
                until, lambda: service.metric("kb_canary_success_ratio") == 0, "a canary round has failed", 15
            )
            assert service.metric("kb_degraded_mode") == 1
            assert service.metric('kb_component_up{component="chromadb"}') == 0
            assert service.status("/readyz") == 200
            seen = service.metric("kb_canary_timestamp_seconds")
            assert abs(time.time() - seen) < 10
        finally:
            chroma.send(signal.SIGCONT)
        await asyncio.to_thread(until, lambda: not breaker_is_open(service), "the breaker closes by itself", 15)

    load = await load_during(f"{service.url}/api/v1/query/demo?q=quick+fox+NUMBER", 20, outage)
    assert load.errors == []
    assert set(load.statuses) == {200}
    assert load.degraded > 0
    assert not service.query("demo", "quick fox again")["degraded_mode"]
    slowest = sorted(load.seconds)[int(len(load.seconds) * 0.99) - 1]
    assert slowest <= DEADLINE_SECONDS + OVERHEAD_SECONDS, f"P99 {slowest:.3f} s over {len(load.seconds)} queries"


def test_cached_answers_are_served_whole_while_degraded_ones_are_not_kept(
    service: Service,
    chroma: Chroma,
    until: Callable[..., None],
) -> None:
    whole = service.query("demo", "caffeine in green tea")
    chroma.send(signal.SIGSTOP)
    try:
        until(lambda: breaker_is_open(service), "the breaker opens", 10)
        cached = service.query("demo", "Caffeine  in green tea")
        assert cached["cache_hit"]
        assert cached["degraded_mode"]
        assert cached["results"] == whole["results"]
        degraded = service.query("demo", "tides of the sea")
        assert degraded["degraded_mode"]
        assert degraded["degraded_reason"]
        assert degraded["results"][0]["document_id"] == "moon"
        assert not service.query("demo", "caffeine", mode="keyword")["degraded_mode"]
    finally:
        chroma.send(signal.SIGCONT)
    until(lambda: not breaker_is_open(service), "the breaker closes", 15)
    again = service.query("demo", "tides of the sea")
    assert not again["cache_hit"]
    assert not again["degraded_mode"]


def test_documents_sent_during_an_outage_are_found_at_once_and_indexed_after_it(
    service: Service,
    chroma: Chroma,
    until: Callable[..., None],
) -> None:
    chroma.kill()
    until(lambda: breaker_is_open(service), "the breaker opens", 15)
    service.ingest("demo", {"bread": "Sourdough needs a starter of wild yeast."}, wait=False)
    assert service.found("demo", "sourdough starter") == ["bread"]
    assert service.metric("kb_ingest_queue_documents") == 1
    until(lambda: service.ingest("demo", {"x": "y"}, wait=False)["status"] == "queued", "the reason is known", 10)
    chroma.start()
    until(lambda: service.metric("kb_ingest_queue_documents") == 0, "the queue drains", 20)
    until(lambda: not breaker_is_open(service), "the breaker closes", 15)
    assert service.found("demo", "baking with natural leaven", mode="vector")[0] == "bread"


def test_a_chroma_that_comes_back_empty_is_noticed_and_filled_again(
    service: Service,
    chroma: Chroma,
    until: Callable[..., None],
) -> None:
    """Its heartbeat says 200 all the time."""
    chroma.kill()
    shutil.rmtree(chroma.folder)
    chroma.start()
    # Not by the state of the canaries: until their next round it is that of the lost collection.
    until(lambda: "are sent again" in service.log.read_text(), "the loss is noticed", 15)
    until(lambda: is_whole(service) and service.metric("kb_ingest_queue_documents") == 0, "filled again", 20)
    assert service.found("demo", "which French city is the seat of government", mode="vector")[0] == "paris"
    assert "are sent again" in service.log.read_text()
