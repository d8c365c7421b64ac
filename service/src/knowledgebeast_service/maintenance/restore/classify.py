"""Which kind of damage it is, because the kinds have different cures: REINDEX makes indexes anew from whole tables, a
backup replaces tables, and a wrong volume must not be touched at all.

`integrity_check`, not `quick_check`, which passes over indexes out of step; and more than that, because it is content
with an empty file and looks neither at foreign keys nor at what ought to be there.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import apsw

from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.damage import TABLES, Finding, Kind, file_damage, holds_a_database, schema_damage
from knowledgebeast_service.storage.migrations import schema_version
from knowledgebeast_service.storage.outbox import head, tallied_documents
from knowledgebeast_service.storage.volume import NAME as IDENTITY

SHOWN = 10
READ = 200  # messages of SQLite: enough to see whether any tree of a table is among them
# What integrity_check says of an index whose table is whole, and of the list of free pages.
OF_INDEXES = re.compile(
    r"^(row -?\d+ (missing from index|values differ from index) |wrong # of entries in index "
    r"|non-unique entry in index |rowid not at end-of-record for row -?\d+ of index )"
)
OF_FREE_PAGES = re.compile(r"^(Freelist: |Page \d+: never used$|freelist )", re.IGNORECASE)
OF_TREE = re.compile(r"^Tree (\d+)\b")


@dataclass(frozen=True)
class Floor:
    """What the database must have reached: a lower number means that an older file was put in its place."""

    database_id: str
    seq: int
    said_by: str


@dataclass(frozen=True)
class Report:
    """A database looked at in full; `rows` by table, empty where it could not be read that far."""

    finding: Finding
    seq: int = 0
    documents: int = 0
    schema: int = 0
    rows: dict[str, int] = field(default_factory=dict[str, int])


def classify(database: Path, *, floors: Sequence[Floor] = (), only_first: bool = False) -> Report:
    """Look at all of it. The caller holds the volume lock.

    With `only_first` SQLite stops at its first message: enough to know that something is wrong, not what.

    Raises:
        OSError, apsw.IOError, apsw.CantOpenError: it cannot be read now, which says nothing of its content.
    """
    finding = _volume(database)
    if finding.is_good:
        finding = file_damage(database)
    if not finding.is_good:
        return Report(finding)
    try:
        connection = Connection(database, read_only=True)
        try:
            return _look_inside(connection, database, floors, 1 if only_first else READ)
        finally:
            connection.close()
    except apsw.NotADBError as error:
        return Report(Finding("not-a-database", (f"NotADBError: {error}",)))
    except (apsw.CorruptError, UnicodeError) as error:
        return Report(Finding("pages", (f"{type(error).__name__}: {error}",)))
    except apsw.SQLError as error:
        return Report(Finding("schema", (f"SQLError: {error}",)))


def kind_of(messages: Iterable[str], index_trees: Iterable[int]) -> Kind:
    """From the messages of integrity_check; `index_trees` are the root pages of indexes."""
    trees = frozenset(index_trees)
    kind: Kind = "none"
    for message in messages:
        if message == "ok" or message.startswith("***"):
            continue
        tree = OF_TREE.match(message)
        of_index = int(tree[1]) in trees if tree else OF_INDEXES.match(message) or OF_FREE_PAGES.match(message)
        if not of_index:
            return "pages"
        kind = "index"
    return kind


def _volume(database: Path) -> Finding:
    if not database.exists() and not holds_a_database(database.parent):
        sentence = f"there is no database at {database}, and no {IDENTITY} says that there was one"
        return Finding("wrong-volume", (f"{sentence}: is the right volume mounted?",))
    return Finding()


def _look_inside(connection: Connection, database: Path, floors: Sequence[Floor], messages: int) -> Report:
    try:
        found = _messages(connection, messages)
        kind = kind_of(found, _index_trees(connection))
    except apsw.CorruptError as error:
        # It gives up at some pages without saying whose they are.
        found = [f"integrity_check: {error}"]
        kind = "index" if _tables_are_whole(connection) else "pages"
    if kind == "pages":
        return Report(Finding("pages", _some(found)))
    schema = schema_damage(connection, had_one=True)
    if not schema.is_good:
        return Report(schema)
    rows = {table: connection.number(f"SELECT count(*) FROM {table} NOT INDEXED") for table in sorted(TABLES)}
    seq = head(connection) if _has_outbox(connection) else connection.number("SELECT max(seq) FROM changes")
    report = Report(Finding(kind, _some(found)), seq, rows["documents"], schema_version(connection), rows)
    if kind == "index":
        return report  # whatever else is asked would be answered by the indexes
    broken = [
        f"row {row} of {table} refers to a missing row of {parent}" for table, row, parent in _dangling(connection)
    ]
    wrong = broken + _miscounted(connection, rows) + _below(connection, floors)
    return replace(report, finding=Finding("pages", _some(wrong))) if wrong else report


def _tables_are_whole(connection: Connection) -> bool:
    """Whether every row of every table can be read, in the order of its key: then only indexes can be wrong."""
    tables = [
        (str(name), "WITHOUT ROWID" in str(sql).upper())
        for name, sql in connection.rows("SELECT name, sql FROM sqlite_schema WHERE type = 'table'")
    ]
    try:
        for name, has_no_rowid in tables:
            last: int | None = None
            for row in connection.rows(f"SELECT {'0' if has_no_rowid else 'rowid'}, * FROM {name} NOT INDEXED"):
                if not has_no_rowid and last is not None and row[0] <= last:
                    return False
                last = row[0]
    except (apsw.CorruptError, UnicodeError):
        return False
    return True


def _messages(connection: Connection, limit: int) -> list[str]:
    """One for each line; what SQLite finds in trees comes as several lines in one row."""
    rows = connection.rows(f"PRAGMA integrity_check({limit})")
    return [line for row in rows for line in str(row[0]).splitlines() if line != "ok" and not line.startswith("***")]


def _index_trees(connection: Connection) -> list[int]:
    return [int(row[0]) for row in connection.rows("SELECT rootpage FROM sqlite_schema WHERE type = 'index'")]


def _dangling(connection: Connection) -> list[tuple[str, int, str]]:
    rows: list[tuple[str, int, str]] = []
    for table, rowid, parent, _ in connection.rows("PRAGMA foreign_key_check"):
        rows.append((str(table), int(rowid or 0), str(parent)))
        if len(rows) == SHOWN:
            break
    return rows


def _miscounted(connection: Connection, rows: dict[str, int]) -> list[str]:
    """Counts that contradict each other. A bulk delete is in the tallies; lost rows are not."""
    problems: list[str] = []
    without = connection.number(
        "SELECT count(*) FROM chunks c WHERE NOT EXISTS (SELECT 1 FROM postings p WHERE p.chunk_id = c.id)"
    )
    if without:
        problems.append(f"{without:,} chunks have no postings")
    if _has_outbox(connection) and (tallied := tallied_documents(connection)) != rows["documents"]:
        problems.append(f"{rows['documents']:,} documents; those inserted less those deleted make {tallied:,}")
    return problems


def _below(connection: Connection, floors: Sequence[Floor]) -> list[str]:
    if not floors or not _has_outbox(connection):
        return []
    row = connection.row("SELECT database_id FROM identity")
    own, seq = str(row[0]) if row else "", head(connection)
    return [
        f"it ends at change {seq:,}, but {floor.said_by} has change {floor.seq:,}: an older file was put in its place"
        for floor in floors
        if floor.database_id == own and floor.seq > seq
    ]


def _has_outbox(connection: Connection) -> bool:
    return connection.row("SELECT 1 FROM sqlite_schema WHERE name = 'outbox'") is not None


def _some(*messages: Sequence[str]) -> tuple[str, ...]:
    return tuple(message for some in messages for message in some)[:SHOWN]
