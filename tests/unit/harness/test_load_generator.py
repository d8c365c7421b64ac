"""The generator against a small HTTP server on loopback that can be slow, wrong or gone."""

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable

from harness.load.generator import Plan, run
from harness.load.queries import Queries
from harness.load.records import Record

QUERIES = Queries(("How do plants make food?", "Who walked on the Moon?", "What causes earthquakes?"))
GOOD = {"degraded_mode": False, "cache_hit": False, "results": [{"document_id": "tides"}]}

Handler = Callable[[int], Awaitable[tuple[int, object]]]
"""From the number of the connection to status and body."""


@contextlib.asynccontextmanager
async def server(handler: Handler) -> AsyncGenerator[str]:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        number, connections = connections, connections + 1
        with contextlib.closing(writer):
            await reader.readuntil(b"\r\n\r\n")
            status, body = await handler(number)
            content = json.dumps(body).encode()
            writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content)
            with contextlib.suppress(ConnectionError):
                await writer.drain()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listener:
        host, port = listener.sockets[0].getsockname()
        yield f"http://{host}:{port}"


async def load(
    url: str, *, rate: float = 50, seconds: float = 0.5, patience: float = 5, max_in_flight: int = 500
) -> list[Record]:
    records: list[Record] = []
    plan = Plan(url, "library", rate, seconds, patience, max_in_flight)
    await run(plan, QUERIES, records.append, asyncio.Event())
    return sorted(records, key=lambda item: item.number)


async def test_sends_at_the_rate_that_was_asked_for() -> None:
    async def answer(_: int) -> tuple[int, object]:
        return 200, GOOD

    async def seconds_taken() -> float:
        begun = time.monotonic()
        async with server(answer) as url:
            records = await load(url, rate=50, seconds=0.6)
        assert len(records) == 30
        assert not any(item.is_failed for item in records)
        gaps = [round(after.due - before.due, 3) for before, after in itertools.pairwise(records)]
        assert set(gaps) == {0.02}
        return time.monotonic() - begun

    taken = [await seconds_taken() for _ in range(3)]
    assert min(taken) > 0.5
    assert min(taken) < 2, "a busy machine delays one, hardly three in a row"


def test_the_rate_follows_its_profile_and_a_pause_is_one() -> None:
    plan = Plan("", "library", 10, 5, profile=(1, 0, 3), step_seconds=1)
    dues = list(plan.due_times())

    per_second = [sum(second <= due < second + 1 for due in dues) for second in range(5)]
    assert per_second == [10, 0, 30, 10, 0]
    assert dues == sorted(dues)
    assert list(Plan("", "library", 0.1, 5).due_times()) == [0]


async def test_a_stall_does_not_slow_the_arrivals_down() -> None:
    """A closed loop would send one request into the stall; an open one sends them all and counts their waiting."""
    stall_over = asyncio.Event()

    async def stalling(number: int) -> tuple[int, object]:
        if number == 0:
            asyncio.get_running_loop().call_later(0.6, stall_over.set)
        await stall_over.wait()
        return 200, GOOD

    async with server(stalling) as url:
        records = await load(url, rate=50, seconds=0.5)

    waited = [item.latency_seconds for item in records]
    assert len(records) == 25
    assert max(waited) > 0.5
    assert min(waited) > 0.05, "every request met the stall"
    assert waited[0] > waited[-1] + 0.3


async def test_what_is_not_an_answer_has_failed() -> None:
    answers: list[tuple[int, object]] = [
        (503, {}),
        (200, {"results": []}),
        (200, {**GOOD, "results": []}),
        (200, {**GOOD, "degraded_mode": True}),
        (200, GOOD),
    ]

    async def in_turn(number: int) -> tuple[int, object]:
        return answers[number]

    async with server(in_turn) as url:
        records = await load(url, rate=10, seconds=0.5)

    assert [item.error for item in records] == ["HTTP 503", "malformed answer", "no results", None, None]
    assert [item.is_degraded for item in records] == [False, False, False, True, False]


async def test_a_refused_connection_and_a_silent_server_have_failed() -> None:
    async def silent(_: int) -> tuple[int, object]:
        await asyncio.sleep(3)
        return 200, GOOD

    async with server(silent) as url:
        late = await load(url, rate=10, seconds=0.2, patience=0.3)
    refused = await load(url, rate=10, seconds=0.2)

    assert {item.error for item in late} == {"no answer within 0.3 s"}
    assert all(item.latency_seconds >= 0.3 for item in late)
    assert {item.error for item in refused} == {"ConnectError"}


async def test_requests_beyond_the_bound_are_counted_as_failed_and_not_sent() -> None:
    connections: set[int] = set()

    async def slow(number: int) -> tuple[int, object]:
        connections.add(number)
        await asyncio.sleep(0.5)
        return 200, GOOD

    async with server(slow) as url:
        records = await load(url, rate=50, seconds=0.2, max_in_flight=4)

    assert len(records) == 10
    assert len(connections) == 4
    assert sum(item.is_failed for item in records) == 6


async def test_stops_when_told_and_waits_for_answers_under_way() -> None:
    stop = asyncio.Event()
    records: list[Record] = []

    async def slow(_: int) -> tuple[int, object]:
        await asyncio.sleep(0.2)
        return 200, GOOD

    async with server(slow) as url:
        asyncio.get_running_loop().call_later(0.3, stop.set)
        await asyncio.wait_for(run(Plan(url, "library", 20, 30), QUERIES, records.append, stop), timeout=5)

    assert 1 <= len(records) <= 10  # of 600; fewer than six on a busy machine
    assert not any(item.is_failed for item in records)


def test_texts_are_reproducible_and_mostly_new() -> None:
    texts = [QUERIES.text(number) for number in range(200)]

    assert texts == [QUERIES.text(number) for number in range(200)]
    repeated = sum(text in QUERIES.questions for text in texts)
    assert 20 < repeated < 80
    assert len(set(texts)) > 100
