"""The search that a synthetic query asks for: real, of a stored project, from no cache and into none."""

import contextlib
import time
from collections.abc import Callable

from knowledgebeast_service.errors import KnowledgeBeastError, NotFoundError
from knowledgebeast_service.search.coalesce import SingleFlight
from knowledgebeast_service.search.pipeline import SearchPipeline, SearchRequest
from knowledgebeast_service.search.replica import KeywordReplica

TEXT = "what do these documents say"
HELD_SECONDS = 1.0


class ProbeSearch:
    """One at a time, and at most one in HELD_SECONDS: it needs no key, and whoever asks more often shares a result
    instead of making work. Projects take turns. A service without any has nothing to fail at.
    """

    def __init__(
        self, pipeline: SearchPipeline, replica: KeywordReplica, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pipeline = pipeline
        self._replica = replica
        self._clock = clock
        self._flights = SingleFlight[str, None]()
        self._turn = 0
        self._ended_at: float | None = None
        self._error: KnowledgeBeastError | None = None

    async def run(self) -> None:
        """Search, or share the result of a search of this second.

        Raises:
            KnowledgeBeastError: a user's query would have failed, too.
        """
        if self._ended_at is None or self._clock() - self._ended_at >= HELD_SECONDS:
            await self._flights.run("probe", self._search)
        elif self._error is not None:
            raise self._error

    async def _search(self) -> None:
        self._error = None
        try:
            await self._of_next_project()
        except KnowledgeBeastError as error:
            self._error = error
            raise
        finally:
            self._ended_at = self._clock()

    async def _of_next_project(self) -> None:
        names = sorted(self._replica.snapshot.by_name)
        if not names:
            return
        self._turn += 1
        with contextlib.suppress(NotFoundError):  # deleted a moment ago
            await self._pipeline.answer_uncached(SearchRequest(names[self._turn % len(names)], TEXT))
