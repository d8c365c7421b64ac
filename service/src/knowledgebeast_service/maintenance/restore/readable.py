"""Reading what a damaged file still gives: row by row around the pages that SQLite refuses.

Only ever read: the file is evidence. A read-only connection neither checkpoints nor removes the `-wal`.
"""

import contextlib
import logging
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TypeVar

import apsw

from knowledgebeast_service.storage.connection import Bindings, Connection, Row

log = logging.getLogger(__name__)

T = TypeVar("T")

BATCH = 256
# Keys that are tried one by one in a stretch that cannot be read; a damaged counter may promise 10^15 of them.
MOST_TRIES = 200_000
UNREADABLE = (apsw.Error, UnicodeError)


@contextlib.contextmanager
def opened(database: Path) -> Generator[Connection | None]:
    """The damaged file with its `-wal` where SQLite takes both, else without, else None."""
    for immutable in (False, True):
        connection: Connection | None = None
        try:
            connection = Connection(database, read_only=True, immutable=immutable)
            connection.execute("PRAGMA cell_size_check = ON")
            connection.number("SELECT count(*) FROM sqlite_schema")
        except UNREADABLE as error:
            log.warning("%s cannot be read %s: %s", database, "by itself" if immutable else "with its -wal", error)
            if connection is not None:
                connection.close()
            continue
        try:
            yield connection
        finally:
            connection.close()
        return
    yield None


def rows_between(connection: Connection, table: str, key: str, columns: str, first: int, last: int) -> Iterator[Row]:
    """Rows with `first` <= key <= `last` that can be read, ascending; the key (the table's rowid) comes first."""
    at, tries = first, 0
    range_sql = (
        f"SELECT {key}, {columns} FROM {table} NOT INDEXED WHERE {key} BETWEEN ? AND ? ORDER BY {key} LIMIT {BATCH}"
    )
    one_sql = f"SELECT {key}, {columns} FROM {table} NOT INDEXED WHERE {key} = ?"
    while at <= last:
        rows = attempt(lambda start=at: list(connection.rows(range_sql, (start, last))))
        if rows is None:
            for single in range(at, min(at + BATCH, last + 1)):
                row = attempt(lambda number=single: connection.row(one_sql, (number,)))
                if row is not None:
                    yield row
            at, tries = at + BATCH, tries + BATCH
            if tries >= MOST_TRIES:
                return
        elif not rows:
            return
        else:
            yield from rows
            at = int(rows[-1][0]) + 1


def attempt(read: Callable[[], T]) -> T | None:
    """What `read` gives, or None where the file does not."""
    try:
        return read()
    except UNREADABLE:
        return None


def number(connection: Connection, sql: str, bindings: Bindings = ()) -> int | None:
    """The first column of the first row; None where it cannot be read or is no integer."""
    row = attempt(lambda: connection.row(sql, bindings))
    return row[0] if row is not None and isinstance(row[0], int) else None
