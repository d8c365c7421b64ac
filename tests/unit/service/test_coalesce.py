import asyncio

import pytest

from knowledgebeast_service.search.coalesce import SingleFlight


class Work:
    """A computation that ends when it is told to."""

    def __init__(self) -> None:
        self.started = 0
        self.cancelled = 0
        self.may_end = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> int:
        self.started += 1
        number = self.started
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return number


async def let_run() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_those_who_ask_for_the_same_at_once_share_one_computation() -> None:
    flights, work = SingleFlight[str, int](), Work()
    callers = [asyncio.create_task(flights.run("q", work)) for _ in range(20)]
    other = asyncio.create_task(flights.run("another", work))
    await let_run()
    work.may_end.set()
    assert await asyncio.gather(*callers) == [1] * 20
    assert await other == 2
    assert await flights.run("q", work) == 3  # it is no cache


async def test_a_first_caller_who_leaves_does_not_fail_the_others() -> None:
    flights, work = SingleFlight[str, int](), Work()
    first = asyncio.create_task(flights.run("q", work))
    await let_run()
    second = asyncio.create_task(flights.run("q", work))
    await let_run()
    first.cancel()
    await let_run()
    work.may_end.set()
    assert await second == 1
    assert first.cancelled()
    assert work.cancelled == 0


async def test_the_last_caller_to_leave_ends_the_computation() -> None:
    flights, work = SingleFlight[str, int](), Work()
    callers = [asyncio.create_task(flights.run("q", work)) for _ in range(2)]
    await let_run()
    for caller in callers:
        caller.cancel()
    await let_run()
    assert work.cancelled == 1
    later = asyncio.create_task(flights.run("q", work))
    await let_run()
    work.may_end.set()
    assert await later == 2


async def test_an_error_goes_to_all_who_wait_and_to_nobody_after_them() -> None:
    flights, work = SingleFlight[str, int](), Work()
    work.error = ValueError("once")
    callers = [asyncio.create_task(flights.run("q", work)) for _ in range(3)]
    await let_run()
    work.may_end.set()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert all(isinstance(result, ValueError) for result in results)
    work.error = None
    assert await flights.run("q", work) == 2


async def test_someone_who_comes_while_the_abandoned_work_still_ends_starts_anew() -> None:
    flights = SingleFlight[str, str]()
    ending, may_end = asyncio.Event(), asyncio.Event()

    async def slow_to_die() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            ending.set()
            await may_end.wait()
        return "never"

    async def fresh() -> str:
        return "fresh"

    abandoned = asyncio.create_task(flights.run("q", slow_to_die))
    await let_run()
    abandoned.cancel()
    await ending.wait()
    assert await flights.run("q", fresh) == "fresh"
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await abandoned
