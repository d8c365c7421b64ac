"""Warming fills the caches, at its rate, and gives way to users."""

import asyncio
import time
from collections.abc import AsyncGenerator

import pytest

from knowledgebeast_service.search.pipeline import SearchRequest
from knowledgebeast_service.search.warming import LiveLatency, warm
from knowledgebeast_service.storage.database import Database
from search_world import Doc, SearchWorld, search_world

FAST = 1000.0  # a second: no test waits for the rate


@pytest.fixture
async def world(database: Database) -> AsyncGenerator[SearchWorld]:
    async with search_world(database) as made:
        await made.add("p", [Doc("d", "fox", 0)])
        yield made


def requests(count: int) -> list[SearchRequest]:
    return [SearchRequest("p", f"fox {number}") for number in range(count)]


async def test_after_it_the_queries_are_answered_from_the_cache(world: SearchWorld) -> None:
    await world.pipeline.answer(requests(1)[0])
    done = await warm(world.pipeline, LiveLatency(), requests(5), FAST)
    assert (done.asked, done.already_cached, done.failed, done.stopped) == (5, 1, 0, None)
    assert (await world.pipeline.answer(requests(5)[4])).is_cached


async def test_it_keeps_to_its_rate(world: SearchWorld) -> None:
    done = await warm(world.pipeline, LiveLatency(), requests(4), per_second=50)
    assert done.seconds >= 3 / 50


async def test_it_stops_when_the_queries_of_users_become_slower(world: SearchWorld) -> None:
    latency = LiveLatency()
    for _ in range(100):
        latency.record(0.1, time.monotonic())
    warming = asyncio.create_task(warm(world.pipeline, latency, requests(5), per_second=10))
    await asyncio.sleep(0)  # it has begun
    for _ in range(100):
        latency.record(0.25, time.monotonic())
    done = await warming
    assert done.asked == 0
    assert done.stopped is not None
    assert "250 ms (limit 200 ms)" in done.stopped


async def test_a_few_slow_queries_do_not_stop_it(world: SearchWorld) -> None:
    latency = LiveLatency()
    for _ in range(10):
        latency.record(9.0, time.monotonic() + 1)
    assert (await warm(world.pipeline, latency, requests(3), FAST)).asked == 3


async def test_it_does_not_run_while_answers_are_degraded(world: SearchWorld) -> None:
    world.breaker.trip("Chroma is away")
    done = await warm(world.pipeline, LiveLatency(), requests(3), FAST)
    assert done.asked == 0
    assert "Chroma is away" in (done.stopped or "")


async def test_a_query_that_fails_is_counted_and_the_rest_goes_on(world: SearchWorld) -> None:
    done = await warm(world.pipeline, LiveLatency(), [SearchRequest("gone", "x"), *requests(1)], FAST)
    assert (done.asked, done.failed) == (2, 1)


def test_the_p99_is_of_the_last_seconds_only() -> None:
    latency = LiveLatency()
    for _ in range(50):
        latency.record(5.0, now=0.0)
        latency.record(0.1, now=100.0)
    assert latency.p99(now=100.0) == 0.1
    assert latency.p99(now=300.0) is None
