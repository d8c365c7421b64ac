"""`maintain reindex`: indexes are made anew from whole tables, in a copy; the damaged file goes to quarantine.

REINDEX empties an index before it fills it, and gives up where it cannot even walk through its pages; VACUUM copies
indexes page by page. Then, and for a wrong list of free pages, the tables are written row by row into a new file.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import apsw

from knowledgebeast_service.maintenance.restore.classify import Report, classify
from knowledgebeast_service.maintenance.restore.fenced import LOCK_WAIT_SECONDS, Progress, RefusedError, Steps, repair
from knowledgebeast_service.maintenance.restore.marker import QUARANTINE, begin
from knowledgebeast_service.maintenance.result import TaskResult
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.damage import side_files
from knowledgebeast_service.storage.durable import copy_file, publish, remove_file, sync_file

TASK = "reindex"
MIB = 1024 * 1024
COPIES = 2.2  # the copy, and the file that its tables are written to


def reindex(
    database: Path,
    attempt: str,
    progress: Progress = lambda _step: None,
    lock_wait_seconds: float = LOCK_WAIT_SECONDS,
) -> TaskResult:
    """Do it, or say why not."""

    def prepare(steps: Steps) -> dict[str, object]:
        with steps.step("classify"):
            before = classify(database)
        _require_index_damage(before, database)
        _require_space(database)
        copy = begin(database.parent, TASK, attempt, steps.started_at) / database.name
        with steps.step("copy"):
            for path in (database, side_files(database)[0]):
                if path.exists():
                    copy_file(path, copy.with_name(path.name))
        after = _cured(copy, steps)
        return {
            "problems_before": list(before.finding.problems),
            "problems_after": list(after.finding.problems),
            "documents": after.documents,
            "seq": after.seq,
            "quarantine": f"{QUARANTINE}/{attempt}",
            "seconds": steps.total(),
            "steps": dict(steps.seconds),
        }

    return repair(TASK, attempt, database, prepare, progress, lock_wait_seconds)


def _require_index_damage(report: Report, database: Path) -> None:
    finding = report.finding
    if finding.is_good:
        raise RefusedError("NothingToRepair", f"{database} passes every check ({report.documents:,} documents).")
    if finding.damage == "wrong-volume":
        raise RefusedError("WrongVolume", f"{'; '.join(finding.problems)} Nothing was changed.")
    if finding.damage != "index":
        raise RefusedError(
            "NeedsRestore",
            f"The damage is not in the indexes alone ({finding}): REINDEX would build on it. Use `maintain restore`. "
            "Nothing was changed.",
        )


def _require_space(database: Path) -> None:
    needed = COPIES * sum(path.stat().st_size for path in (database, *side_files(database)) if path.exists())
    free = shutil.disk_usage(database.parent).free
    if free < needed:
        raise RefusedError(
            "DiskFull",
            f"{database.parent} has {free / MIB:,.0f} MiB free, {needed / MIB:,.0f} are needed to work on a copy. "
            "Nothing was changed.",
        )


def _cured(copy: Path, steps: Steps) -> Report:
    """What the check says of the copy after REINDEX, or with its tables in a new file where that was not enough."""
    report = Report(classify(copy).finding)
    for name, cure in (("reindex", _reindex), ("rewrite", rewrite)):
        with steps.step(name):
            done = _try(cure, copy)
        with steps.step("check"):
            report = classify(copy)
        if done and report.finding.is_good:
            sync_file(copy)
            return report
        steps.progress(f"after {name}: {report.finding}")
    raise RefusedError(
        "NeedsRestore",
        f"Neither REINDEX nor a new file of the same rows cures it ({report.finding}). Nothing was changed. "
        "Use `maintain restore`.",
    )


def _try(cure: Callable[[Path], None], copy: Path) -> bool:
    """Whether it ran to its end; the copy is without -wal afterwards."""
    try:
        cure(copy)
    except (apsw.CorruptError, apsw.ConstraintError):
        return False
    return True


def _reindex(copy: Path) -> None:
    connection = Connection(copy)
    try:
        connection.execute("REINDEX")
        connection.execute("PRAGMA journal_mode = DELETE")
    finally:
        connection.close()


def rewrite(copy: Path) -> None:
    """Put a new file with the same rows in the place of the copy; only tables are read, in the order of their keys."""
    new = copy.with_name(f"{copy.name}.new")
    remove_file(new)
    connection = Connection(new)
    try:
        connection.execute("PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF")
        connection.execute("ATTACH ? AS damaged", (str(copy),))
        with connection.transaction():
            _write_rows(connection)
        connection.execute("DETACH damaged")
    finally:
        connection.close()
    for path in side_files(copy):
        remove_file(path)
    publish(new, copy)


def _write_rows(connection: Connection) -> None:
    schema = list(connection.rows("SELECT type, name, sql FROM damaged.sqlite_schema WHERE sql IS NOT NULL"))
    tables = [(str(name), str(sql)) for kind, name, sql in schema if kind == "table"]
    for name, sql in tables:
        if not name.startswith("sqlite_"):
            connection.execute(sql)
    for name, sql in tables:
        columns = ", ".join(_columns(connection, name, sql))
        connection.execute(f"DELETE FROM main.{name}")
        # Named columns: for `SELECT *` SQLite would copy the pages of the indexes, too.
        connection.execute(f"INSERT INTO main.{name} ({columns}) SELECT {columns} FROM damaged.{name} NOT INDEXED")
    for kind, _, sql in schema:
        if kind != "table":
            connection.execute(str(sql))


def _columns(connection: Connection, table: str, sql: str) -> list[str]:
    """With the rowid, where no column is it: its order says which rows are newer."""
    columns = list(connection.rows("SELECT name, type, pk FROM pragma_table_info(?)", (table,)))
    keys = [str(kind).upper() for _, kind, place in columns if place]
    is_rowid_hidden = keys != ["INTEGER"] and "WITHOUT ROWID" not in sql.upper()
    return [*(["rowid"] if is_rowid_hidden else []), *(str(name) for name, _, _ in columns)]
