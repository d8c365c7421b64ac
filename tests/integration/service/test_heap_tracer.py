"""A planted leak is found by file and line; off means off."""

import asyncio
import json
import logging
import tracemalloc
from collections.abc import Iterator

import pytest

from knowledgebeast_service.settings import LiveSettings
from knowledgebeast_service.telemetry.heap import MIB, HeapTracer
from knowledgebeast_service.telemetry.logs import JsonFormatter
from knowledgebeast_service.telemetry.profiling import MemoryProfiler, NoMemoryToProfileError


class Leaked:
    """What the planted leak makes."""


@pytest.fixture(autouse=True)
def leaked() -> Iterator[list[object]]:
    yield []
    tracemalloc.stop()


def leak(into: list[object]) -> str:
    """Returns the place of the line that allocates."""
    into.extend(bytes(10_000) for _ in range(100))
    line = leak.__code__.co_firstlineno + 2
    into.extend(Leaked() for _ in range(5_000))
    return f"{__file__}:{line}"


def test_a_leak_is_the_first_line_that_grew(leaked: list[object]) -> None:
    tracer = HeapTracer(lambda: {"query": 7})
    tracer.start()
    first = tracer.profile()
    assert first.grown == ()
    place = leak(leaked)
    found = tracer.profile()
    assert (found.grown[0].where, found.caches) == (place, {"query": 7})
    assert found.grown[0].bytes >= 1_000_000
    assert found.grown[0].grown_bytes == found.grown[0].bytes
    kinds = {one.type: one.grown for one in found.objects}
    assert kinds[f"{__name__}.Leaked"] == 5_000


def test_what_a_library_allocates_is_put_down_to_the_line_that_called_it(leaked: list[object]) -> None:
    tracer = HeapTracer()
    tracer.start()
    leaked.append(json.loads("[" + ",".join(['"' + "x" * 5000 + '"'] * 200) + "]"))
    line = test_what_a_library_allocates_is_put_down_to_the_line_that_called_it.__code__.co_firstlineno + 3
    assert tracer.profile().allocations[0].where == f"{__file__}:{line}"


def test_off_traces_nothing_and_gives_the_memory_back(leaked: list[object]) -> None:
    tracer = HeapTracer()
    tracer.start()
    leak(leaked)
    assert tracemalloc.get_tracemalloc_memory() > 100_000
    tracer.stop()
    assert not tracemalloc.is_tracing()
    assert tracemalloc.get_tracemalloc_memory() < 100_000


def profiles(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    lines = [json.loads(JsonFormatter().format(record)) for record in caplog.records]
    return [line["memory_profile"] for line in lines if line["message"] == "MEMORY_PROFILE"]


async def until(condition: object) -> None:
    async with asyncio.timeout(100):
        while not condition():  # pyright: ignore[reportCallIssue, reportUnknownVariableType]  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_the_live_setting_turns_it_on_and_off(caplog: pytest.LogCaptureFixture, leaked: list[object]) -> None:
    caplog.set_level(logging.INFO, "knowledgebeast_service")
    limits = LiveSettings()
    profiler = MemoryProfiler(lambda: limits, dict)
    task = asyncio.create_task(profiler.run())
    try:
        await asyncio.sleep(0)
        assert not tracemalloc.is_tracing()
        limits = LiveSettings.model_construct(enable_memory_profiling=True, profile_interval_seconds=0.05)
        profiler.settings_changed()
        await until(lambda: len(profiles(caplog)) == 1)
        place = leak(leaked)
        await until(lambda: len(profiles(caplog)) > 2)
        assert any(place in json.dumps(profile["grown"]) for profile in profiles(caplog))
        limits = LiveSettings()
        profiler.settings_changed()
        await until(lambda: not tracemalloc.is_tracing())
    finally:
        task.cancel()


async def test_on_demand_traces_for_a_while_and_stops_again(leaked: list[object]) -> None:
    profiler = MemoryProfiler(LiveSettings, dict)
    taking = asyncio.create_task(profiler.on_demand(0.2))
    await until(tracemalloc.is_tracing)
    place = leak(leaked)
    found = await taking
    assert found.allocations[0].where == place
    assert not tracemalloc.is_tracing()


async def test_refuses_where_tracing_could_cost_the_container_its_life() -> None:
    profiler = MemoryProfiler(LiveSettings, dict, free_bytes=lambda: 10 * MIB)
    with pytest.raises(NoMemoryToProfileError, match="10 MiB are left"):
        await profiler.on_demand(1)
    assert not tracemalloc.is_tracing()


async def test_traces_over_their_budget_end_the_wait_and_begin_anew(
    caplog: pytest.LogCaptureFixture, leaked: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "knowledgebeast_service")
    monkeypatch.setattr("knowledgebeast_service.telemetry.profiling.LEAST_BUDGET_BYTES", 0)
    monkeypatch.setattr("knowledgebeast_service.telemetry.profiling.BUDGET_CHECK_SECONDS", 0.02)
    limits = LiveSettings(enable_memory_profiling=True, profile_interval_seconds=3600)
    profiler = MemoryProfiler(lambda: limits, dict, free_bytes=lambda: 400_000)
    task = asyncio.create_task(profiler.run())
    try:
        await until(tracemalloc.is_tracing)
        leak(leaked)
        await until(lambda: profiles(caplog))
        assert profiles(caplog)[0]["begins_anew"]
        assert tracemalloc.get_tracemalloc_memory() < 400_000
    finally:
        task.cancel()
