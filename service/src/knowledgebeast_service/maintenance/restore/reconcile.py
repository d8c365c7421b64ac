"""After a restore Chroma is brought in step with the database, beside serving: vectors of documents that are no longer
there are removed, missing ones are sent again from the database. The model is not needed.

Several replicas may do it at once: each step is a difference of two sets of ids.
"""

import asyncio
import logging

from knowledgebeast_service.errors import UnavailableError
from knowledgebeast_service.maintenance.fill import Filler, Filling
from knowledgebeast_service.search.placement import Collections
from knowledgebeast_service.storage import restores
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.follow import projects
from knowledgebeast_service.storage.generations import Generation, written_generations
from knowledgebeast_service.storage.records import Project

log = logging.getLogger(__name__)

RETRY_SECONDS = 10.0


class Reconciliation:
    """Runs until the database has no restore that Chroma does not know of; looks once."""

    def __init__(self, database: Database, collections: Collections) -> None:
        self._database = database
        self._collections = collections

    async def run(self) -> None:
        """Until it is done; Chroma or the database being away is waited for."""
        while True:
            try:
                if await self._database.read(restores.unreconciled):
                    await self._reconcile()
                return
            except UnavailableError as error:
                log.warning("Chroma is not yet in step with the restored database: %s", error)
                await asyncio.sleep(RETRY_SECONDS)

    async def _reconcile(self) -> None:
        for project, generation in await self._database.read(_generations):
            filling = await Filler(self._database, self._collections, project, generation, _ignore).run()
            log.info(
                "project %s after a restore: %d vectors sent again, %d removed",
                *(project.name, filling.added, filling.removed),
            )
        await self._database.write(restores.reconciled)


def _generations(connection: Connection) -> list[tuple[Project, Generation]]:
    """Of every project and every model that it has vectors of."""
    found: list[tuple[Project, Generation]] = []
    for project in projects(connection):
        rows = connection.rows("SELECT DISTINCT model_hash FROM vectors WHERE project_id = ?", (project.id,))
        for model_hash in [str(row[0]) for row in rows]:
            found += [(project, one) for one in written_generations(connection, project.uid, model_hash)]
    return found


async def _ignore(_filling: Filling) -> None:
    return None
