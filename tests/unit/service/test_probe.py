"""Synthetic queries: a real search that leaves no trace, and a prober that asks as a client does."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from knowledgebeast_service import prober
from knowledgebeast_service.errors import DatabaseError
from knowledgebeast_service.prober import Prober
from knowledgebeast_service.search.pipeline import SearchRequest
from knowledgebeast_service.search.probe_search import TEXT, ProbeSearch
from knowledgebeast_service.settings import LiveSettings
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.telemetry.metrics import Metrics
from search_world import Doc, SearchWorld, search_world


@pytest.fixture
async def world(database: Database) -> AsyncGenerator[SearchWorld]:
    async with search_world(database) as made:
        yield made


@pytest.fixture
def clock() -> list[float]:
    return [100.0]


@pytest.fixture
def probe(world: SearchWorld, clock: list[float]) -> ProbeSearch:
    return ProbeSearch(world.pipeline, world.replica, lambda: clock[0])


async def test_it_searches_anew_each_time_and_leaves_nothing_in_the_caches(
    world: SearchWorld, probe: ProbeSearch, clock: list[float]
) -> None:
    await world.add("p", [Doc("a", "fox", 1.0)])
    for _ in range(2):
        clock[0] += 2
        await probe.run()
    assert world.embedder.asked == [TEXT, TEXT]
    assert len(world.store.asked) == 2
    assert not (await world.pipeline.answer(SearchRequest("p", TEXT))).is_cached
    assert world.embedder.asked == [TEXT] * 3


async def test_who_asks_again_within_a_second_or_meanwhile_makes_no_work(
    world: SearchWorld, probe: ProbeSearch, clock: list[float]
) -> None:
    await world.add("p", [Doc("a", "fox", 1.0)])
    await asyncio.gather(*(probe.run() for _ in range(20)))
    clock[0] += 0.9
    await probe.run()
    assert world.embedder.asked == [TEXT]


async def test_projects_take_turns_and_none_is_no_failure(
    world: SearchWorld, probe: ProbeSearch, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    await probe.run()
    asked: list[str] = []

    async def answer(request: SearchRequest) -> None:
        asked.append(request.project)

    for name in ("p", "q"):
        await world.add(name, [Doc("a", "fox", 1.0)])
    monkeypatch.setattr(world.pipeline, "answer_uncached", answer)
    for _ in range(4):
        clock[0] += 2
        await probe.run()
    assert sorted(asked[:2]) == ["p", "q"]
    assert asked[2:] == asked[:2]


async def test_a_search_that_fails_is_told_to_all_who_ask_within_the_second(
    world: SearchWorld, probe: ProbeSearch, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.add("p", [Doc("a", "fox", 1.0)])
    calls: list[int] = []

    async def refuse(_request: SearchRequest) -> None:
        calls.append(1)
        raise DatabaseError("the database refused")

    with monkeypatch.context() as patch:
        patch.setattr(world.pipeline, "answer_uncached", refuse)
        for _ in range(2):
            with pytest.raises(DatabaseError):
                await probe.run()
    assert len(calls) == 1
    clock[0] += 2
    await probe.run()


class Site:
    """A service that answers with this status, or not at all."""

    def __init__(self) -> None:
        self.status: int | None = 200
        self.asked = 0
        self.was_asked_thrice = asyncio.Event()
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        if self.asked >= 3:
            self.was_asked_thrice.set()
        if self.status is None:
            await asyncio.sleep(60)
        return web.Response(status=self.status or 200)


@pytest.fixture
async def site() -> AsyncGenerator[Site]:
    made = Site()
    app = web.Application()
    app.router.add_get("/probe", made.answer)
    async with TestServer(app) as server:
        made.url = str(server.make_url("/"))
        yield made


def shown(metrics: Metrics) -> tuple[float, float]:
    """Whether the last one was answered, and when it ended."""
    lines = dict(line.rsplit(" ", 1) for line in metrics.render().decode().splitlines() if line.startswith("kb_probe"))
    return float(lines["kb_probe_success"]), float(lines["kb_probe_timestamp_seconds"])


@pytest.mark.parametrize("status", [503, 401, 302, None])
async def test_an_answer_is_a_success_and_all_else_a_failure(
    site: Site, status: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prober, "DEADLINE_SECONDS", 0.2)
    metrics = Metrics()
    one = Prober(site.url, metrics, LiveSettings)
    await one.probe()
    good, first = shown(metrics)
    assert (good, first > 0) == (1, True)
    site.status = status
    assert await one.probe() < 5
    bad, second = shown(metrics)
    assert (bad, second > first) == (0, True)


async def test_an_address_that_has_never_answered_tells_nothing() -> None:
    metrics = Metrics()
    one = Prober("http://127.0.0.1:9", metrics, LiveSettings)
    await one.probe()
    assert shown(metrics) == (0, 0)


@pytest.mark.parametrize(("interval", "is_asked"), [(0.01, True), (0.0, False)])
async def test_it_asks_again_and_again_and_not_while_it_is_off(site: Site, interval: float, is_asked: bool) -> None:
    prober = Prober(site.url, Metrics(), lambda: LiveSettings(probe_interval_seconds=interval))
    running = asyncio.create_task(prober.run())
    try:
        await asyncio.wait_for(site.was_asked_thrice.wait(), 10 if is_asked else 0.2)
    except TimeoutError:
        assert not is_asked
    finally:
        running.cancel()
    assert site.was_asked_thrice.is_set() is is_asked
