"""The client against servers that are slow, broken or gone."""

import asyncio
import time
from collections.abc import AsyncGenerator

import pytest

from fake_prometheus import FakePrometheus
from knowledgebeast_operator.errors import PrometheusUnreachable
from knowledgebeast_operator.signals.prometheus import Prometheus
from knowledgebeast_operator.signals.samples import Answer

TIMEOUT = 0.5
QUERY = "kb_chroma_breaker_state[10s]"


@pytest.fixture
async def server() -> AsyncGenerator[FakePrometheus]:
    with FakePrometheus("ns", lambda: ["a"]) as fake:
        fake.set("kb_chroma_breaker_state", 0)
        yield fake


@pytest.fixture
async def client(server: FakePrometheus) -> AsyncGenerator[Prometheus]:
    made = Prometheus(server.url, timeout_seconds=TIMEOUT, cache_seconds=60)
    yield made
    await made.close()


async def ask(client: Prometheus) -> Answer:
    answer = (await client.ask([QUERY]))[QUERY]
    if isinstance(answer, PrometheusUnreachable):
        raise answer
    return answer


async def test_it_answers(client: Prometheus) -> None:
    answer = await ask(client)
    assert len(answer.streams) == 1
    assert len(answer.streams[0].values) == 11


async def test_the_objects_of_a_round_share_one_query(client: Prometheus, server: FakePrometheus) -> None:
    server.delay_seconds = 0.05
    await asyncio.gather(*(ask(client) for _ in range(20)))
    await ask(client)
    assert server.queries == [QUERY]


async def test_one_question_that_fails_leaves_the_others_alone(client: Prometheus, server: FakePrometheus) -> None:
    await ask(client)
    server.status = 503
    answers = await client.ask([QUERY, "up"])
    assert isinstance(answers[QUERY], Answer)
    assert isinstance(answers["up"], PrometheusUnreachable)


async def test_an_old_answer_is_asked_for_again(server: FakePrometheus) -> None:
    client = Prometheus(server.url, timeout_seconds=TIMEOUT, cache_seconds=0)
    await ask(client)
    await ask(client)
    assert len(server.queries) == 2
    await client.close()


async def test_a_slow_server_is_given_up_in_time(client: Prometheus, server: FakePrometheus) -> None:
    server.delay_seconds = 3 * TIMEOUT
    begun = time.monotonic()
    with pytest.raises(PrometheusUnreachable) as caught:
        await ask(client)
    assert time.monotonic() - begun < 2 * TIMEOUT
    assert QUERY in str(caught.value)


async def test_an_error_is_not_tried_again(client: Prometheus, server: FakePrometheus) -> None:
    server.status = 503
    with pytest.raises(PrometheusUnreachable, match="503"):
        await ask(client)
    assert len(server.queries) == 1


async def test_a_redirect_is_not_followed(client: Prometheus, server: FakePrometheus) -> None:
    server.redirect = "/somewhere/else"
    with pytest.raises(PrometheusUnreachable):
        await ask(client)
    assert len(server.queries) == 1


async def test_a_server_that_is_gone_is_an_error() -> None:
    with FakePrometheus("ns", lambda: []) as fake:
        url = fake.url
    client = Prometheus(url, timeout_seconds=TIMEOUT, cache_seconds=60)
    with pytest.raises(PrometheusUnreachable):
        await ask(client)
    await client.close()


async def test_a_page_that_is_not_json_is_an_error(client: Prometheus, server: FakePrometheus) -> None:
    server.body = b"<html>"
    with pytest.raises(PrometheusUnreachable):
        await ask(client)
