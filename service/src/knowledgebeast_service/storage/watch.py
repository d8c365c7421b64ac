"""Looks every few seconds whether the database is still what it was: a lost or cut file, pages that cannot be read.

Connections that serve keep pages in memory and would not notice for hours. A fresh one reads the schema and some random
rows from disk. Of a database that could not be opened it looks whether it can be by now.
"""

import asyncio
import logging
import random

import apsw

from knowledgebeast_service.errors import DatabaseError, StartupError
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.damage import Finding, inode_of
from knowledgebeast_service.storage.database import Database

log = logging.getLogger(__name__)

WATCH_SECONDS = 2.0
ROWS = 20
SAMPLED = (("documents", "id", "title"), ("chunks", "id", "text"), ("postings", "chunk_id", "counts"))


async def watch(database: Database, seconds: float = WATCH_SECONDS) -> None:
    """Until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(seconds)
        await loop.run_in_executor(None, look, database)


async def until_ours(database: Database, seconds: float = WATCH_SECONDS) -> None:
    """Look, for as long as the volume is another object's."""
    loop = asyncio.get_running_loop()
    while database.is_of_another:
        await asyncio.sleep(seconds)
        await loop.run_in_executor(None, look, database)


def look(database: Database) -> None:
    """Once; what is found goes to the database, which counts it and stops writing."""
    if not database.is_open:
        _try_again(database)
        return
    finding = _lost(database)
    if finding is None:
        try:
            _read_some(database)
        except (apsw.CorruptError, apsw.NotADBError) as error:
            finding = Finding("pages", (f"{type(error).__name__}: {error}",))
        except (apsw.Error, DatabaseError) as error:
            log.warning("the database could not be looked at: %s", error)
    if finding is not None:
        database.note_damage(finding)


def _try_again(database: Database) -> None:
    try:
        database.open(volume_lock_wait_seconds=0)
    except StartupError as error:
        log.info("not opened yet: %s", error)
        return
    if database.is_open:
        log.warning("the database can be opened again: serving")


def _lost(database: Database) -> Finding | None:
    if inode_of(database.path) is None:
        return Finding("missing", (f"{database.path} is gone",))
    if database.path.stat().st_size == 0:
        return Finding("empty", (f"{database.path} has 0 bytes",))
    return None


def _read_some(database: Database) -> None:
    connection = database.fresh()
    try:
        for table, key, column in SAMPLED:
            _read_rows(connection, table, key, column)
    finally:
        connection.close()


def _read_rows(connection: Connection, table: str, key: str, column: str) -> None:
    newest = connection.number(f"SELECT max({key}) FROM {table}")
    start = random.randint(0, newest)
    sql = f"SELECT {key}, {column} FROM {table} WHERE {key} >= ? ORDER BY {key} LIMIT {ROWS}"
    for _ in connection.rows(sql, (start,)):
        pass
