"""The open-model load: times count from when a query was due, and nothing that failed is counted as fast."""

import asyncio

import httpx
import pytest

from knowledgebeast_service.evaluation.load import Load, run_load

ANSWER = {"degraded_mode": False, "cache_hit": True}


def test_percentiles_are_nearest_ranks() -> None:
    load = Load(milliseconds=[float(n) for n in range(100, 0, -1)])
    assert [load.percentile(share) for share in (0.5, 0.95, 0.99, 1.0)] == [50, 95, 99, 100]
    assert Load(milliseconds=[7.0]).percentile(0.5) == 7


async def test_a_stall_is_charged_to_everyone_who_would_have_waited() -> None:
    """The first answer takes 0.3 s, and all others stand behind it: those due early waited longest."""
    line = asyncio.Lock()
    stalls = [0.3]

    async def handle(_request: httpx.Request) -> httpx.Response:
        async with line:
            await asyncio.sleep(stalls.pop() if stalls else 0)
        return httpx.Response(200, json=ANSWER)

    async with httpx.AsyncClient(transport=httpx.MockTransport(handle), base_url="http://x") as client:
        load = await run_load(client, "/q", [{"query": "a"}], rate=100, seconds=0.2)
    assert load.requests == load.answered == load.cached == 20
    assert load.percentile(0.5) > 150


async def test_failures_are_counted_by_kind_and_have_no_time() -> None:
    answers = [httpx.Response(429), httpx.ConnectError("x"), httpx.Response(200, json=ANSWER | {"degraded_mode": True})]

    def handle(_request: httpx.Request) -> httpx.Response:
        answer = answers.pop()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with httpx.AsyncClient(transport=httpx.MockTransport(handle), base_url="http://x") as client:
        load = await run_load(client, "/q", [{"query": "a"}], rate=300, seconds=0.01)
    assert (load.failures, load.answered, load.degraded) == ({"429": 1, "ConnectError": 1}, 1, 1)
    assert load.percentile(0.5) == pytest.approx(load.milliseconds[0])
