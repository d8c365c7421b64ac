"""What a damaged database still says of the changes after a number: read, proved one by one, and never written.

A document counts only if its text, title and hash belong together, as they were stored in one transaction: SQLite has
no checksums of its own, and a page may hold what it held yesterday. What cannot be proved is left out and named.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from knowledgebeast_service.ingest.prepare import IncomingDocument, InspectedDocument
from knowledgebeast_service.ingest.text import inspect
from knowledgebeast_service.maintenance.restore.readable import attempt, number, opened, rows_between
from knowledgebeast_service.shipping.segments import LogicalChange, ShippedDocument
from knowledgebeast_service.storage.connection import Connection, Row
from knowledgebeast_service.storage.wal_tail import WalState, is_tail_there

OPS = frozenset({"put", "delete", "create", "drop"})
DocumentKey = tuple[str, str, str]  # (project's uid, project, the caller's id)
DOCUMENT_COLUMNS = "project_id, external_id, title, metadata, created_at, content_hash, hashed_at"


@dataclass(frozen=True)
class Unproved:
    """A document that was changed by change `seq`, and whose content cannot be had."""

    seq: int
    key: DocumentKey


@dataclass(frozen=True)
class Salvage:
    """`head` is the number of the last change, None where nothing says it; `numbers` are those that were read.

    `changes` have no number (0) where only the document was found, not the change that brought it.
    """

    database_id: str = ""
    head: int | None = None
    is_tail_known: bool = False
    issued: Mapping[str, int] = field(default_factory=dict[str, int])
    numbers: frozenset[int] = frozenset()
    changes: tuple[LogicalChange, ...] = ()
    unproved: tuple[Unproved, ...] = ()

    def given_up(self) -> Self:
        """The same, with nothing merged of what was found: what was a document is now one that is known to be lost."""
        puts = [change for change in self.changes if change.op == "put" and change.seq and change.document is not None]
        lost = [Unproved(one.seq, (one.project_uid, one.project, one.document or "")) for one in puts]
        return replace(self, changes=(), unproved=(*self.unproved, *lost))


def salvage(database: Path, after_seq: int, after_time: float, before: WalState) -> Salvage:
    """Changes after `after_seq`; where their numbers are lost, documents that are newer than `after_time`."""
    if not database.exists() or database.stat().st_size == 0:
        return Salvage()
    with opened(database) as connection:
        if connection is None:
            return Salvage()
        return _Reader(connection, after_seq, after_time).read(is_tail_there(database, before))


@dataclass(frozen=True)
class _Found:
    """A row of `documents`, sane as far as types go."""

    id: int
    project_id: int
    external_id: str
    title: str
    metadata: str
    created_at: float
    content_hash: str
    hashed_at: float


class _Reader:
    def __init__(self, connection: Connection, after_seq: int, after_time: float) -> None:
        self._connection = connection
        self._after_seq = after_seq
        self._after_time = after_time
        self._chunks: dict[int, dict[int, str]] | None = None

    def read(self, is_tail_known: bool) -> Salvage:
        issued = self._issued()
        rows = self._outbox(issued.get("outbox"))
        head = max([issued.get("outbox", 0), *rows]) if "outbox" in issued or rows else None
        identity = attempt(lambda: self._connection.row("SELECT database_id FROM identity"))
        puts = {(row.project_id, row.document): row for row in rows.values() if row.op == "put"}
        has_holes = head is None or head - self._after_seq > len(rows)
        documents = self._documents(issued.get("documents"), puts, with_newer=has_holes)
        changes, unproved = self._resolve(rows, documents)
        if has_holes:
            changes += self._without_number(documents, {(row.project_id, row.document) for row in rows.values()})
        return Salvage(
            database_id=str(identity[0]) if identity else "",
            head=head,
            is_tail_known=is_tail_known and "outbox" in issued,
            issued=issued,
            numbers=frozenset(rows),
            changes=tuple(sorted(changes, key=lambda change: change.seq)),
            unproved=tuple(unproved),
        )

    def _issued(self) -> dict[str, int]:
        rows = attempt(lambda: list(self._connection.rows("SELECT name, seq FROM sqlite_sequence"))) or []
        return {name: seq for name, seq in rows if isinstance(name, str) and isinstance(seq, int)}

    def _last(self, table: str, key: str, issued: int | None) -> int:
        if issued is not None:
            return issued
        newest = number(self._connection, f"SELECT max({key}) FROM {table}")
        return newest if newest is not None else self._after_seq + 10_000

    def _outbox(self, issued: int | None) -> dict[int, "_Change"]:
        columns = "op, project_id, project, project_uid, document, at"
        last = self._last("outbox", "number", issued)
        rows = rows_between(self._connection, "outbox", "number", columns, self._after_seq + 1, last)
        return {row[0]: change for row in rows if (change := _change(row)) is not None}

    def _documents(
        self, issued: int | None, puts: Mapping[tuple[int, str | None], object], *, with_newer: bool
    ) -> dict[tuple[int, str], _Found]:
        """Those put by a change that was read, and those that are newer: by a look at all, for an index may lie."""
        if not puts and not with_newer:
            return {}
        found: dict[tuple[int, str], _Found] = {}
        last = self._last("documents", "id", issued)
        for row in rows_between(self._connection, "documents", "id", DOCUMENT_COLUMNS, 1, last):
            document = _document(row)
            if document is None:
                continue
            key = (document.project_id, document.external_id)
            if key in puts or (with_newer and document.created_at > self._after_time):
                found[key] = document
        return found

    def _resolve(
        self, rows: Mapping[int, "_Change"], documents: Mapping[tuple[int, str], _Found]
    ) -> tuple[list[LogicalChange], list[Unproved]]:
        """The last change of each document with the content that it has now, and all changes of projects."""
        last = {(row.project_id, row.document): seq for seq, row in sorted(rows.items()) if row.document is not None}
        dropped = {row.project_uid: seq for seq, row in rows.items() if row.op == "drop"}
        changes: list[LogicalChange] = []
        unproved: list[Unproved] = []
        for seq, row in sorted(rows.items()):
            if row.document is not None and last[row.project_id, row.document] != seq:
                continue
            if seq < dropped.get(row.project_uid, 0):
                continue
            content: ShippedDocument | None = None
            if row.op == "put" and row.document is not None:
                found = documents.get((row.project_id, row.document))
                content = self._content(found) if found is not None else None
                if content is None:
                    unproved.append(Unproved(seq, (row.project_uid, row.project, row.document)))
                    continue
            changes.append(row.logical(seq, content))
        return changes, unproved

    def _without_number(
        self, documents: Mapping[tuple[int, str], _Found], known: set[tuple[int, str | None]]
    ) -> list[LogicalChange]:
        """Documents that are newer than everything recovered, whose change is on a page that is gone."""
        projects = attempt(lambda: list(self._connection.rows("SELECT id, name, uid FROM projects NOT INDEXED"))) or []
        names = {row[0]: (str(row[1]), str(row[2])) for row in projects}
        changes: list[LogicalChange] = []
        for key, found in documents.items():
            if key in known or found.project_id not in names:
                continue
            content = self._content(found)
            if content is not None:
                name, uid = names[found.project_id]
                changes.append(LogicalChange(0, found.created_at, "put", name, uid, found.external_id, content))
        return changes

    def _content(self, found: _Found) -> ShippedDocument | None:
        """The document, if its hash says that this is its title and its text."""
        for read in (self._chunks_by_index, self._chunks_by_scan):
            chunks = read(found.id)
            if chunks and _is_proved(found, "".join(chunks)):
                return ShippedDocument(found.title, found.metadata, found.created_at, found.content_hash, chunks)
        return None

    def _chunks_by_index(self, document_id: int) -> tuple[str, ...]:
        sql = "SELECT position, text FROM chunks WHERE document_id = ? ORDER BY position"
        return _in_order(dict(attempt(lambda: list(self._connection.rows(sql, (document_id,)))) or []))

    def _chunks_by_scan(self, document_id: int) -> tuple[str, ...]:
        """From a look at the whole table, once, for when the index does not lead to the rows."""
        if self._chunks is None:
            self._chunks = {}
            last = self._last("chunks", "id", self._issued().get("chunks"))
            columns = "document_id, position, text"
            for _, document, position, text in rows_between(self._connection, "chunks", "id", columns, 1, last):
                self._chunks.setdefault(document, {})[position] = text
        return _in_order(self._chunks.get(document_id, {}))


@dataclass(frozen=True)
class _Change:
    """A row of the outbox."""

    op: str
    project_id: int
    project: str
    project_uid: str
    document: str | None
    at: float

    def logical(self, seq: int, content: ShippedDocument | None) -> LogicalChange:
        return LogicalChange(seq, self.at, self.op, self.project, self.project_uid, self.document, content)  # pyright: ignore[reportArgumentType]


def _change(row: Row) -> _Change | None:
    """None for a row that nobody can have written."""
    _, op, project_id, project, uid, document, at = row
    is_sane = op in OPS and isinstance(project_id, int) and isinstance(project, str) and isinstance(uid, str)
    is_of_document = isinstance(document, str) if op in ("put", "delete") else document is None
    return _Change(*row[1:]) if is_sane and is_of_document and isinstance(at, float) else None


def _document(row: Row) -> _Found | None:
    types = (int, int, str, str, str, float, str, float)
    is_sane = len(row) == len(types) and all(isinstance(value, one) for value, one in zip(row, types, strict=True))
    return _Found(*row) if is_sane else None


def _in_order(chunks: Mapping[int, str]) -> tuple[str, ...]:
    """The texts, if none is missing in between; a missing end shows in the hash."""
    texts = [chunks.get(position) for position in range(len(chunks))]
    return tuple(text for text in texts if isinstance(text, str)) if None not in texts else ()


def _is_proved(found: _Found, text: str) -> bool:
    if found.hashed_at != found.created_at or not _is_object(found.metadata):
        return False
    document = InspectedDocument(IncomingDocument(text, found.title), inspect(found.title, text))
    return document.content_hash == found.content_hash


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
