"""The pieces of a restore as commands of their own, for people: none of them touches the data folder."""

import time
from pathlib import Path

from knowledgebeast_service.maintenance.backups.catalogue import Expected
from knowledgebeast_service.maintenance.backups.verify import verify_database
from knowledgebeast_service.maintenance.restore.choose import choose
from knowledgebeast_service.maintenance.restore.fenced import RefusedError
from knowledgebeast_service.maintenance.restore.loss import assess
from knowledgebeast_service.maintenance.restore.merge import last_numbers, merge
from knowledgebeast_service.maintenance.restore.salvage import salvage
from knowledgebeast_service.maintenance.restore.sources import gather
from knowledgebeast_service.maintenance.result import TaskResult
from knowledgebeast_service.shipping.segments import LogicalChange, from_line, to_line
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.damage import side_files
from knowledgebeast_service.storage.durable import (
    copy_file,
    publish,
    remove_file,
    scratch_path,
    sync_file,
    write_file,
)
from knowledgebeast_service.storage.volume import read_identity
from knowledgebeast_service.storage.wal_tail import wal_state

ASSESS_LOSS = "assess-loss"


def write_salvage(database: Path, out: Path, after_seq: int) -> dict[str, object]:
    """The changes that can be proved, one a line, in the format of shipped ones."""
    found = salvage(database, after_seq, 0.0, wal_state(database))
    write_file(out, b"".join(map(to_line, found.changes)))
    return {
        "changes": len(found.changes),
        "documents": sum(change.op == "put" for change in found.changes),
        "last": found.head,
        "is_end_known": found.is_tail_known,
        "unproved": [{"project": one.key[1], "id": one.key[2]} for one in found.unproved],
    }


def merge_recovery(backup: Path, recovery: Path, output: Path) -> dict[str, object]:
    """A new database of both.

    Raises:
        ValueError: a line is damaged, or the outcome does not pass its check; `output` is not made then.
        OSError, apsw.Error: it cannot be read or written.
    """
    if output.exists():
        raise FileExistsError(f"{output} is there already")
    changes = _read_lines(recovery)
    scratch = output.with_name(f".{output.name}.merging")
    _remove_scratch(scratch)
    try:
        copy_file(backup, scratch)
        connection = Connection(scratch)
        try:
            with connection.transaction():
                merged = merge(connection, changes, last_numbers(changes))
            connection.execute("PRAGMA journal_mode = DELETE")
        finally:
            connection.close()
        _, problem = verify_database(scratch)
        if problem is not None:
            raise ValueError(f"the outcome does not pass its check: {problem.message}")
        sync_file(scratch)
        publish(scratch, output)
    finally:
        _remove_scratch(scratch)
    return {"documents": merged.documents, "deleted": merged.deleted, "changes": merged.changes}


def assess_loss(database: Path, backup_dir: Path, backup: str | None) -> TaskResult:
    """What a restore would lose if it were done now."""
    now = time.time()
    wal = wal_state(database)
    identity = read_identity(database.parent)
    try:
        chosen = choose(backup_dir, backup, Expected.of(identity))
    except RefusedError as refusal:
        return TaskResult(
            ASSESS_LOSS, "", ok=False, measured=refusal.measured, refused=str(refusal), reason=refusal.reason
        )
    sources = gather(database, backup_dir, chosen.manifest, wal, now)
    loss = assess(sources.recovered, sources.salvage)
    measured: dict[str, object] = {
        "backup_id": chosen.manifest.id,
        "merged_changes": sum(1 for _ in sources.shipped()),
        "salvaged_documents": sum(change.op == "put" for change in sources.salvaged()),
        "loss": loss.measured(0.0),
    }
    return TaskResult(ASSESS_LOSS, "", ok=True, measured=measured)


def _remove_scratch(scratch: Path) -> None:
    """With its log: SQLite would take the one that a killed run has left for that of the next copy."""
    for path in (*side_files(scratch), scratch, scratch_path(scratch)):
        remove_file(path)


def _read_lines(recovery: Path) -> list[LogicalChange]:
    changes: list[LogicalChange] = []
    with recovery.open("rb") as file:
        for number, line in enumerate(file, start=1):
            change = from_line(line)
            if change is None:
                raise ValueError(f"line {number} of {recovery} is torn or damaged")
            changes.append(change)
    return changes
