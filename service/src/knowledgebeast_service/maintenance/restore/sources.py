"""All that is known of the changes after a backup: what was shipped, and what the damaged file still gives."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self

from knowledgebeast_service.maintenance.backups.manifest import Manifest
from knowledgebeast_service.maintenance.restore.loss import Recovered
from knowledgebeast_service.maintenance.restore.merge import issued_by, last_numbers, raise_to
from knowledgebeast_service.maintenance.restore.salvage import Salvage, salvage
from knowledgebeast_service.shipping.segments import LogicalChange, read_changes, survey
from knowledgebeast_service.storage.damage import side_files
from knowledgebeast_service.storage.head_mark import highest_given
from knowledgebeast_service.storage.wal_tail import WalState


@dataclass(frozen=True)
class Sources:
    """What is newer than the backup; `issued` are the highest numbers given, as far as anything says (`is_known`).

    `damaged` is the file that vectors may be taken of, None where nothing of it is to be merged.
    """

    damaged: Path | None
    salvage: Salvage
    recovered: Recovered
    issued: dict[str, int]
    is_known: bool
    read: Callable[[], Iterator[LogicalChange]]

    def shipped(self) -> Iterator[LogicalChange]:
        """The shipped changes that are to be merged."""
        return (change for change in self.read() if change.seq <= self.recovered.shipped_to)

    def salvaged(self) -> list[LogicalChange]:
        """Of the changes in the damaged file, those that nothing else has."""
        return [one for one in self.salvage.changes if self._is_lacking(one)]

    def _is_lacking(self, change: LogicalChange) -> bool:
        if change.seq == 0:
            return self.recovered.is_newer(change)
        return self.recovered.lacks(change.seq, change.project_uid, change.document)

    def without_salvage(self) -> Self:
        return replace(self, salvage=self.salvage.given_up(), damaged=None)

    def without_shipped(self) -> Self:
        recovered = replace(
            self.recovered, shipped_to=self.recovered.backup_seq, shipped_at=0.0, missing=(), shipped={}
        )
        return replace(self, recovered=recovered)


def gather(database: Path, backup_dir: Path, manifest: Manifest, wal: WalState, now: float) -> Sources:
    """Read all of it; changes nothing. `wal` as of before anyone opened the database."""
    read = partial(read_changes, backup_dir, manifest.seq, manifest.database_id)
    backup_at = manifest.created_at.timestamp()
    shipped = survey(backup_dir, manifest.seq, manifest.database_id)
    issued = dict(manifest.issued)
    raise_to(issued, issued_by(read()))
    found = salvage(database, manifest.seq, backup_at, wal)
    known = max(shipped.last, issued.get("outbox", 0))
    mark = highest_given(database, manifest.database_id) or 0
    is_end_known = mark > 0 and mark >= max(known, found.head or 0)  # else somebody wrote without it
    if found.head is not None and found.head < max(known, mark):
        found = replace(found, is_tail_known=False)  # an older file, or one whose -wal is not its own
    raise_to(issued, found.issued)
    recovered = Recovered(
        backup_seq=manifest.seq,
        backup_at=backup_at,
        shipped_to=shipped.last,
        shipped_at=max((change.at for change in read()), default=0.0),
        missing=shipped.missing,
        shipped=last_numbers(read()),
        last_known_seq=max(known, mark),
        damaged_at=_last_write(database, found, now),
        is_end_known=is_end_known,
    )
    return Sources(database, found, recovered, issued, found.head is not None and found.is_tail_known, read)


def _last_write(database: Path, found: Salvage, now: float) -> float:
    """When the database was written to for the last time, as far as its files are all there to say it."""
    if not found.is_tail_known or not database.exists():
        return now
    files = [one for one in (database, side_files(database)[0]) if one.exists()]
    return min(now, max(one.stat().st_mtime for one in files))
