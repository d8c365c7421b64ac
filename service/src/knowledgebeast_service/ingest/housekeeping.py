"""Keeping the database from growing without end: what it holds beside the documents goes when it is old."""

import asyncio
import logging

from knowledgebeast_service.errors import DatabaseError
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.outbox import discard, superfluous
from knowledgebeast_service.storage.pruning import needs_pruning, prune

log = logging.getLogger(__name__)

LOOK_SECONDS = 60.0


async def keep_house(database: Database, *, is_shipping: bool = False) -> None:
    """Prune until cancelled, in steps between which others write. Several replicas may."""
    while True:
        try:
            pruned = 0
            while await database.read(needs_pruning):
                pruned += await database.write(prune)
            if pruned:
                log.info("change log: %d old entries removed", pruned)
            while up_to := await database.read(lambda connection: superfluous(connection, is_shipping=is_shipping)):
                if is_shipping:
                    log.error("changes up to %d are given up unshipped: too many wait; make a backup", up_to)
                await database.write(lambda connection, up_to=up_to: discard(connection, up_to))
        except DatabaseError as error:
            log.warning("the change log is not pruned now: %s", error)
        await asyncio.sleep(LOOK_SECONDS)
