"""How far a repair has come, on the data volume, so that a run after a crash goes on and does nothing twice.

    preparing    a new file is being made aside; the database is as it was, and a crash costs the work
    prepared     the new file is whole, checked and on disk
    quarantined  the old file is in quarantine, whole, with what belongs to it
    (renamed)    the new file has the database's name: shown by its scratch name being gone
    done         the marker has become the record of the attempt

While there is a marker no service makes or opens a database here.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal, Self

from knowledgebeast_service.storage.damage import MARKER, side_files
from knowledgebeast_service.storage.durable import (
    make_folder,
    move_files,
    publish,
    remove_file,
    remove_tree,
    sync_folder,
    write_file,
)
from knowledgebeast_service.storage.volume import record_database

Step = Literal["preparing", "prepared", "quarantined"]

SCRATCH = "restore-scratch"
QUARANTINE = "quarantine"


@dataclass(frozen=True)
class Marker:
    """`measured` is what the result will say; empty while preparing."""

    task: str
    attempt: str
    step: Step
    started_at: float
    measured: dict[str, object] = field(default_factory=dict[str, object])

    @classmethod
    def read(cls, data_dir: Path) -> Self | None:
        """The marker of a run that has not ended, of whatever attempt."""
        try:
            return cls(**json.loads((data_dir / MARKER).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None

    def write(self, data_dir: Path) -> Self:
        write_file(data_dir / MARKER, json.dumps(asdict(self)).encode())
        return self


def record_path(data_dir: Path, task: str, attempt: str) -> Path:
    """What an attempt that has ended leaves behind: its marker."""
    return data_dir / "maintenance" / f".{task}-{attempt}.done"


def read_record(data_dir: Path, task: str, attempt: str) -> Marker | None:
    try:
        return Marker(**json.loads(record_path(data_dir, task, attempt).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def scratch_folder(data_dir: Path) -> Path:
    """Where the new file is made: on the same file system, or the rename would not be one."""
    return data_dir / SCRATCH


def begin(data_dir: Path, task: str, attempt: str, started_at: float) -> Path:
    """The marker, and an empty scratch folder."""
    Marker(task, attempt, "preparing", started_at).write(data_dir)
    remove_tree(scratch_folder(data_dir))
    make_folder(scratch_folder(data_dir))
    return scratch_folder(data_dir)


def abandon(data_dir: Path) -> None:
    """Leave everything as it was; only while preparing."""
    remove_tree(scratch_folder(data_dir))
    remove_file(data_dir / MARKER)


def swap(database: Path, marker: Marker, attempt: str) -> Marker:
    """From `prepared` to the end, whatever a crash has left of it, recorded under the attempt that ends it."""
    data_dir = database.parent
    quarantine = data_dir / QUARANTINE / marker.attempt
    if marker.step == "prepared":
        move_files([database, *side_files(database)], quarantine)
        marker = replace(marker, step="quarantined").write(data_dir)
    prepared = scratch_folder(data_dir) / database.name
    if prepared.exists():
        # A process that ignores the fence may have made them meanwhile: they are of the old file.
        move_files(side_files(database), quarantine / "late")
        publish(prepared, database)
    remove_tree(scratch_folder(data_dir))
    record_database(data_dir)
    record = record_path(data_dir, marker.task, attempt)
    make_folder(record.parent)
    publish(data_dir / MARKER, record)
    sync_folder(data_dir)
    return marker
