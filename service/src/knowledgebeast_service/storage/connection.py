"""A typed face for an apsw connection: rows come back as tuples, transactions as a context manager."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias, cast
from urllib.parse import quote

import apsw

Value: TypeAlias = int | float | str | bytes | None
Bindings: TypeAlias = Sequence[Value] | Mapping[str, Value]
Row: TypeAlias = tuple[Any, ...]  # SQLite types values, not columns; STRICT tables hold what the schema says

KEPT_LOG_BYTES = 64 * 1024 * 1024  # what a log that grew during a backup is cut to when it is begun anew
BUSY_TIMEOUT_MILLISECONDS = 1000  # a backstop: the write lock is what keeps writers apart


class Connection:
    """One connection, for one thread at a time."""

    def __init__(
        self, path: Path, *, read_only: bool = False, immutable: bool = False, must_exist: bool = False
    ) -> None:
        """`immutable`: a file that nobody changes is read without locks, and without any file beside it.

        Raises:
            apsw.CantOpenError: there is no such file, and it is only to be read or `must_exist`.
        """
        flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE
        if not read_only and not must_exist:
            flags |= apsw.SQLITE_OPEN_CREATE
        name = f"file:{quote(str(path))}?immutable=1" if immutable else str(path)
        self._raw = apsw.Connection(name, flags=flags | (apsw.SQLITE_OPEN_URI if immutable else 0))
        self._raw.set_busy_timeout(BUSY_TIMEOUT_MILLISECONDS)
        self.execute("PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL")
        if not read_only:
            self.execute(f"PRAGMA journal_mode = WAL; PRAGMA journal_size_limit = {KEPT_LOG_BYTES}")

    def execute(self, sql: str, bindings: Bindings = ()) -> None:
        """Run a statement (several only without bindings) to its end."""
        for _ in self._raw.execute(sql, bindings):  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            pass

    def execute_many(self, sql: str, bindings: Iterable[Bindings]) -> None:
        for _ in self._raw.executemany(sql, bindings):  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            pass

    def rows(self, sql: str, bindings: Bindings = ()) -> Iterator[Row]:
        """Rows as they come."""
        return cast("Iterator[Row]", self._raw.execute(sql, bindings))  # pyright: ignore[reportUnknownMemberType]

    def row(self, sql: str, bindings: Bindings = ()) -> Row | None:
        """The first row, or None."""
        rows = self.rows(sql, bindings)
        first = next(rows, None)
        for _ in rows:  # to the end, or the statement would keep its snapshot open
            pass
        return first

    def number(self, sql: str, bindings: Bindings = ()) -> int:
        """The first column of the first row as an integer; 0 for no row or NULL."""
        row = self.row(sql, bindings)
        return int(row[0]) if row is not None and row[0] is not None else 0

    @contextmanager
    def transaction(self) -> Generator[None]:
        """Commit at the end, roll back on an exception."""
        with self._raw:
            yield

    @property
    def in_transaction(self) -> bool:
        return self._raw.in_transaction

    def last_id(self) -> int:
        return self._raw.last_insert_rowid()

    def changed_rows(self) -> int:
        return self._raw.changes()

    def interrupt(self) -> None:
        """End the running statement with apsw.InterruptError; from any thread."""
        self._raw.interrupt()

    def at_intervals(self, steps: int, ask: Callable[[], bool]) -> None:
        """Call `ask` after so many steps of SQLite, in the thread of the statement; True ends it like `interrupt`."""
        self._raw.set_progress_handler(ask, steps)

    def close(self) -> None:
        self._raw.close()
