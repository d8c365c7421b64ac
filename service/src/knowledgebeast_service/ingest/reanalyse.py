"""Making postings anew after the rules of the analyser changed, while searches go on.

A small batch of chunks at a time is analysed outside any lock and stored in one transaction, in the change log as
removed and added under the same id, so that every replica follows. Chunks that changed meanwhile are skipped and found
again. Several replicas may do it at once; it goes on where it was after a restart. Until it ends, older chunks are
found by their older terms.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence

from knowledgebeast_service.errors import DatabaseError
from knowledgebeast_service.ingest.prepare import searchable_text
from knowledgebeast_service.search.analyser import analyse
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.postings import (
    AnalysedChunk,
    OutdatedChunk,
    newest_analyser,
    outdated_chunks,
    replace_postings,
)
from knowledgebeast_service.storage.records import ANALYSER_VERSION

log = logging.getLogger(__name__)

CHUNKS_AT_ONCE = 50  # about 10 ms of the write lock
RETRY_SECONDS = 5.0
# A pod of an older release may go on writing for as long as a rollout takes.
SECONDS_BETWEEN_LOOKS = 60.0

Analyse = Callable[[str], list[str]]


class Reanalysis:
    """Brings all postings to this process's version of the analyser, never back to an older one."""

    def __init__(self, database: Database, version: int = ANALYSER_VERSION, analyse: Analyse = analyse) -> None:
        self._database = database
        self._version = version
        self._analyse = analyse

    async def run(self) -> None:
        """Look, work, look again, until cancelled."""
        await self._warn_of_newer()
        while True:
            try:
                done = await self.work_off()
            except DatabaseError as error:
                log.warning("postings cannot be made anew now: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if done:
                log.info("made the postings of %d chunks anew for analyser %d", done, self._version)
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)

    async def work_off(self) -> int:
        """Make every outdated posting anew; returns how many.

        Raises:
            DatabaseError: what was done so far stays done.
        """
        done = 0
        while outdated := await self._database.read(
            lambda connection: outdated_chunks(connection, self._version, CHUNKS_AT_ONCE)
        ):
            if done == 0:
                log.info("the analyser is at version %d: postings are made anew, searches go on", self._version)
            analysed = await asyncio.to_thread(self._analysed, outdated)
            done += await self._database.write(
                lambda connection, analysed=analysed: replace_postings(connection, self._version, analysed)
            )
        return done

    def _analysed(self, chunks: Sequence[OutdatedChunk]) -> list[AnalysedChunk]:
        return [
            AnalysedChunk(chunk.chunk_id, Counter(self._analyse(searchable_text(chunk.title, chunk.text))))
            for chunk in chunks
        ]

    async def _warn_of_newer(self) -> None:
        try:
            newest = await self._database.read(newest_analyser)
        except DatabaseError:
            return  # the others will have said so
        if newest > self._version:
            log.warning(
                "the database has postings of analyser %d, this release has %d: some words may not be found until the "
                "newer release runs again, or the documents are ingested again by this one",
                newest,
                self._version,
            )
