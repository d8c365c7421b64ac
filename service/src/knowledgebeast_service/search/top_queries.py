"""Remembers what is asked most, in memory, and writes it down now and then: never on a query's own path."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

from knowledgebeast_service.errors import DatabaseError
from knowledgebeast_service.search.pipeline import SearchRequest
from knowledgebeast_service.search.replica import KeywordReplica
from knowledgebeast_service.settings import LiveSettings
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.top_queries import TopQuery, add_counts, forget_top_queries

log = logging.getLogger(__name__)

FLUSH_SECONDS = 30.0
MOST_BETWEEN_FLUSHES = 10_000  # distinct queries; further new ones are not counted


class TopQueries:
    """For one event loop. A crash loses the counts of the last FLUSH_SECONDS, which only order a warming."""

    def __init__(self, database: Database, replica: KeywordReplica, settings: Callable[[], LiveSettings]) -> None:
        self._database = database
        self._replica = replica
        self._settings = settings
        self._counts: Counter[tuple[str, TopQuery]] = Counter()
        self._is_forgotten = False

    def record(self, request: SearchRequest) -> None:
        """Count a query that was answered; filtered ones and later pages are not remembered."""
        if request.filter or request.offset or not self._settings().top_queries:
            return
        query = TopQuery(request.normalised_query, request.mode, request.top_k, request.highlight)
        if (request.project, query) in self._counts or len(self._counts) < MOST_BETWEEN_FLUSHES:
            self._counts[request.project, query] += 1

    async def run(self) -> None:
        """Write down at intervals, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            try:
                await self.flush()
            except DatabaseError as error:
                log.warning("top queries are not written down, their counts are lost: %s", error)

    async def flush(self) -> None:
        """Write down what was counted; switched off, forget everything.

        Raises:
            DatabaseError: nothing was written.
        """
        settings, counts = self._settings(), self._counts
        self._counts = Counter()
        if not settings.top_queries:
            if not self._is_forgotten:
                await self._database.write(forget_top_queries)
                self._is_forgotten = True
            return
        self._is_forgotten = False
        by_name = self._replica.snapshot.by_name
        known = {
            (by_name[project].project.id, query): asked
            for (project, query), asked in counts.items()
            if project in by_name
        }
        if known:
            await self._database.write(
                lambda connection: add_counts(connection, known, settings.top_queries, settings.top_queries_days)
            )
