"""One Prometheus of the operator's configuration: bounded, without retries, shared by the objects of a round.

prometheus-api-client is synchronous, so its calls run in threads of our own: a hanging Prometheus must not use up
those of others. A query that is under way is joined, never sent a second time.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import requests
from prometheus_api_client.exceptions import PrometheusApiClientException
from prometheus_api_client.prometheus_connect import PrometheusConnect
from urllib3.util.retry import Retry

from knowledgebeast_operator.errors import PrometheusUnreachable
from knowledgebeast_operator.signals.samples import Answer, parse

THREADS: Final = 8
"""There are more queries; they come back in a few milliseconds each, and Prometheus answers 20 at a time by default."""


@dataclass(slots=True)
class _Cached:
    task: "asyncio.Task[Answer]"
    asked_at: float


class Prometheus:
    """A client for one target. Not thread-safe; use it from one event loop."""

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float,
        cache_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        session = requests.Session()
        session.trust_env = False  # no proxy and no ~/.netrc may decide where the questions go
        session.max_redirects = 0
        self.url = url
        connect: Any = PrometheusConnect
        self._client = connect(url=url.rstrip("/"), session=session, retry=Retry(total=0), timeout=timeout_seconds)
        self._timeout_seconds = timeout_seconds
        self._cache_seconds = cache_seconds
        self._clock = clock
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="prometheus")
        self._cache: dict[str, _Cached] = {}

    async def ask(self, questions: Iterable[str]) -> Mapping[str, Answer | PrometheusUnreachable]:
        """The answers to instant queries, at most `cache_seconds` old, all asked at once.

        Where there was no answer in time, an error, or no answer of Prometheus, that stands in its place. Most looks at
        an object find every answer there, asked for another one, and cost no task each.
        """
        asked = {promql: self._task(promql) for promql in questions}
        waiting = [task for task in asked.values() if not task.done()]
        if waiting:
            # None is cancelled: others wait for the same answers. The threads end by the time-out of their sockets.
            await asyncio.wait(waiting, timeout=self._timeout_seconds)
        return {promql: self._outcome(promql, task) for promql, task in asked.items()}

    async def close(self) -> None:
        """Waits for nothing: threads that still hang end by their own time-out."""
        for cached in self._cache.values():
            cached.task.cancel()
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    def _task(self, promql: str) -> "asyncio.Task[Answer]":
        """That of an answer which is there or under way; else the question is asked."""
        cached = self._cache.get(promql)
        if cached is None or (cached.task.done() and self._clock() - cached.asked_at >= self._cache_seconds):
            self._forget_old()
            cached = _Cached(asyncio.create_task(self._ask(promql)), self._clock())
            cached.task.add_done_callback(_consume_error)
            self._cache[promql] = cached
        return cached.task

    def _outcome(self, promql: str, task: "asyncio.Task[Answer]") -> Answer | PrometheusUnreachable:
        if not task.done():
            return PrometheusUnreachable(f"no answer within {self._timeout_seconds:g} s. Query: {promql}")
        if task.cancelled():
            return PrometheusUnreachable(f"the operator is ending. Query: {promql}")
        error = task.exception()
        if error is None:
            return task.result()
        if isinstance(error, PrometheusUnreachable):
            return error
        raise error

    async def _ask(self, promql: str) -> Answer:
        loop = asyncio.get_running_loop()
        try:
            result = await loop.run_in_executor(self._executor, self._client.custom_query, promql)
        except PrometheusApiClientException as error:
            raise PrometheusUnreachable(f"{str(error)[:200]}. Query: {promql}") from error
        except (requests.RequestException, ValueError, KeyError, TypeError) as error:
            raise PrometheusUnreachable(f"{type(error).__name__}. Query: {promql}") from error
        return Answer(promql, parse(result))

    def _forget_old(self) -> None:
        old = [
            promql
            for promql, cached in self._cache.items()
            if cached.task.done() and self._clock() - cached.asked_at >= self._cache_seconds
        ]
        for promql in old:
            del self._cache[promql]


def _consume_error(task: "asyncio.Task[Answer]") -> None:
    """Everybody who waited has been told already, or has timed out."""
    if not task.cancelled():
        task.exception()
