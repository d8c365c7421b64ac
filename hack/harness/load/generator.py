"""The generator: one task per request, started when it is due."""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx
from pydantic import BaseModel, ValidationError

from harness.load.queries import Queries
from harness.load.records import Record


@dataclass(frozen=True)
class Plan:
    """How much load, and its bounds."""

    url: str  # of the service, without /api
    project: str
    rate_per_second: float
    seconds: float  # nothing new is started after that
    timeout_seconds: float = 10.0
    max_in_flight: int = 500  # more waiting requests than this are recorded as failed instead of being sent
    top_k: int = 5
    distinct: int | None = None  # so many different queries; None: most are new
    profile: tuple[float, ...] = (1.0,)  # factors on the rate, one a step, and again from the first
    step_seconds: float = 20.0  # of the profile

    def due_times(self) -> Iterator[float]:
        """Seconds after the beginning at which the requests are due; at least one, at most `seconds` of them.

        The rate is an integral over the profile, so a step with the factor 0 is a pause, and nothing is caught up.
        """
        number, planned, begin = 0, 0.0, 0.0  # requests planned for the time before `begin`
        for factor in itertools.cycle(self.profile):
            rate, end = self.rate_per_second * factor, min(begin + self.step_seconds, self.seconds)
            while rate > 0 and (number == 0 or number < planned + rate * (end - begin) - 1e-9):
                yield begin + (number - planned) / rate
                number += 1
            if end >= self.seconds:
                return
            planned, begin = planned + rate * (end - begin), end


class Answer(BaseModel):
    """The part of an answer that says whether it is one (design, section 4)."""

    degraded_mode: bool
    cache_hit: bool
    results: list[object]


HTTP_OK = 200

Sink = Callable[[Record], None]


async def run(plan: Plan, queries: Queries, sink: Sink, stop: asyncio.Event) -> None:
    """Sends the plan's requests, each when it is due, until it is done or `stop` is set, and waits for the answers."""
    # A new connection for each request: every one is a new client to the Service's load balancing, none meets a
    # connection that the server closes just then, and no pod gets all the load because its connection is the warm one.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    timeout = httpx.Timeout(plan.timeout_seconds)
    async with httpx.AsyncClient(base_url=plan.url, limits=limits, timeout=timeout, trust_env=False) as client:
        in_flight: set[asyncio.Task[None]] = set()
        wall, clock = time.time(), time.monotonic()
        for number, offset in enumerate(plan.due_times()):
            if await _stopped_before(stop, clock + offset):
                break
            if len(in_flight) >= plan.max_in_flight:
                late = time.monotonic() - clock - offset
                sink(Record(number=number, due=wall + offset, started=wall + offset + late, latency_seconds=late,
                            status=None, error=f"not sent: {plan.max_in_flight} requests were waiting"))  # fmt: skip
                continue
            task = asyncio.create_task(_ask(client, plan, queries.text(number), (number, offset), wall, clock, sink))
            in_flight.add(task)
            task.add_done_callback(in_flight.discard)
        await asyncio.gather(*in_flight)


async def _stopped_before(stop: asyncio.Event, due: float) -> bool:
    """Waits until `due` (monotonic seconds) and tells whether the load was stopped before that."""
    delay = due - time.monotonic()
    if delay <= 0:
        return stop.is_set()
    try:
        await asyncio.wait_for(stop.wait(), timeout=delay)
    except TimeoutError:
        return False
    return True


async def _ask(
    client: httpx.AsyncClient, plan: Plan, query: str, place: tuple[int, float], wall: float, clock: float, sink: Sink
) -> None:
    """`place`: the request's number, and when it is due."""
    number, offset = place
    started = time.monotonic()
    status, answer, error = None, None, None
    try:
        # httpx bounds each phase of a request; a client waits for the whole of it
        async with asyncio.timeout(plan.timeout_seconds):
            response = await client.get(f"/api/v1/query/{plan.project}", params={"q": query, "top_k": plan.top_k})
        status = response.status_code
        if status == HTTP_OK:
            answer = Answer.model_validate_json(response.content)
            error = None if answer.results else "no results"
        else:
            error = f"HTTP {status}"
    except TimeoutError:
        error = f"no answer within {plan.timeout_seconds:g} s"
    except httpx.HTTPError as failure:
        error = type(failure).__name__
    except ValidationError:
        error = "malformed answer"
    sink(
        Record(
            number=number,
            due=wall + offset,
            started=wall + (started - clock),
            latency_seconds=time.monotonic() - clock - offset,
            status=status,
            degraded=None if answer is None else answer.degraded_mode,
            cached=None if answer is None else answer.cache_hit,
            error=error,
        )
    )
