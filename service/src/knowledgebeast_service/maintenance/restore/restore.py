"""`maintain restore`: a backup takes the place of a damaged database, with everything newer that can be had.

1. fence      the volume lock, exclusively: refused while anyone has the database open
   fetch      with `--from-remote`: a set from object storage into the folder of backups
2. choose     the newest backup that passes its full check; none: refused, nothing changed
3. classify   refused where nothing is damaged, or REINDEX would do, unless a backup was named
4. copy       into a scratch folder on the same file system; its checksum is the manifest's
5. merge      the shipped changes after the backup, then what can be read and proved of the damaged file, vectors too
6. check      in full; what does not pass is made anew with less merged
7. assess     the loss; more than an hour of it needs an approval
8. swap       the damaged file with its -wal, -shm and -journal to quarantine, the new one to its place

Up to the swap the database is as it was: see `marker` for what a crash leaves.
"""

import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from knowledgebeast_service.maintenance.backups.catalogue import Expected
from knowledgebeast_service.maintenance.backups.manifest import DATABASE, sha256_of
from knowledgebeast_service.maintenance.backups.remote import RemoteSettings
from knowledgebeast_service.maintenance.backups.verify import verify_database
from knowledgebeast_service.maintenance.restore.carry import carry_vectors
from knowledgebeast_service.maintenance.restore.choose import Chosen, choose
from knowledgebeast_service.maintenance.restore.classify import Report, classify
from knowledgebeast_service.maintenance.restore.fenced import LOCK_WAIT_SECONDS, Progress, RefusedError, Steps, repair
from knowledgebeast_service.maintenance.restore.fetch import Skipped, fetch
from knowledgebeast_service.maintenance.restore.floors import floors_of
from knowledgebeast_service.maintenance.restore.loss import Loss, assess
from knowledgebeast_service.maintenance.restore.marker import QUARANTINE, begin
from knowledgebeast_service.maintenance.restore.merge import last_numbers, merge
from knowledgebeast_service.maintenance.restore.renew import announce, raise_sequences, renew_identity
from knowledgebeast_service.maintenance.restore.sources import Sources, gather
from knowledgebeast_service.maintenance.result import TaskResult
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.durable import copy_file, sync_file
from knowledgebeast_service.storage.migrations import migrate
from knowledgebeast_service.storage.outbox import issued
from knowledgebeast_service.storage.volume import NAME as IDENTITY
from knowledgebeast_service.storage.volume import ensure_identity, read_identity
from knowledgebeast_service.storage.wal_tail import wal_state

TASK = "restore"
LONGEST_LOSS_SECONDS = 3600.0  # the RPO: a longer one needs an approval
MIB = 1024 * 1024
RESERVE_BYTES = 16 * MIB
SHIPPED_GROWTH = 10  # of a compressed segment to what its documents take in the database


@dataclass(frozen=True)
class Wanted:
    """What is asked for.

    Attributes:
        backup: an id, `latest` (even of a good database), or None (only if it is damaged).
        owner: whose a volume becomes that has no identity yet.
        remote: object storage from which the set is brought first.
        since: when the incident began.
    """

    attempt: str
    backup: str | None = None
    only_backup: bool = False
    approve_loss: bool = False
    new_volume: bool = False
    owner: str | None = None
    since: float | None = None
    remote: RemoteSettings | None = None
    lock_wait_seconds: float = LOCK_WAIT_SECONDS


def restore(database: Path, backup_dir: Path, wanted: Wanted, progress: Progress = lambda _step: None) -> TaskResult:
    """Do it, or say why not."""
    run = _Run(database, backup_dir, wanted)
    return repair(TASK, wanted.attempt, database, run.prepare, progress, wanted.lock_wait_seconds)


@dataclass(frozen=True)
class _Counts:
    """What went into the new file."""

    merged_changes: int
    salvaged_documents: int
    carried_vectors: int
    documents: int = 0


class _Run:
    def __init__(self, database: Path, backup_dir: Path, wanted: Wanted) -> None:
        self._database = database
        self._backup_dir = backup_dir
        self._wanted = wanted

    def prepare(self, steps: Steps) -> dict[str, object]:
        """The new file in the scratch folder; returns what the result says."""
        self._require_new_volume()
        wal = wal_state(self._database)
        identity = read_identity(self._database.parent)
        unfit = self._fetched(steps)
        with steps.step("choose"):
            # What fills a new volume is another one's.
            expected = Expected() if self._wanted.new_volume else Expected.of(identity)
            chosen = choose(self._backup_dir, self._wanted.backup, expected)
        with steps.step("classify"):
            damage = self._classify()
        self._require_space(chosen)
        scratch = begin(self._database.parent, TASK, self._wanted.attempt, steps.started_at)
        with steps.step("salvage"):
            found = gather(self._database, self._backup_dir, chosen.manifest, wal, steps.started_at)
        merged, counts = self._merged_copy(chosen, found, scratch / self._database.name, steps)
        loss = assess(merged.recovered, merged.salvage)
        measured: dict[str, object] = {
            "damage": damage,
            "backup_id": chosen.manifest.id,
            "backup_seq": chosen.manifest.seq,
            "backup_created_at": chosen.manifest.created_at.isoformat(),
            "skipped": [*unfit, *chosen.skipped],
            "quarantine": f"{QUARANTINE}/{self._wanted.attempt}",
            **asdict(counts),
            "loss": loss.measured(time.time() - (self._wanted.since or steps.started_at)),
            "seconds": steps.total(),
            "steps": dict(steps.seconds),
        }
        self._require_approval(loss, measured)
        if not (self._database.parent / IDENTITY).exists():
            ensure_identity(self._database.parent, self._wanted.owner)
        return measured

    def _fetched(self, steps: Steps) -> Skipped:
        """Copies in object storage that were newer than the one that was brought, and not good."""
        if self._wanted.remote is None:
            return ()
        with steps.step("fetch"):
            return fetch(self._wanted.remote, self._backup_dir, self._wanted.backup)

    def _require_new_volume(self) -> None:
        """What fills a new object must never go over one that has been in use, whatever backup was named for it."""
        if self._wanted.new_volume and self._database.exists():
            raise RefusedError(
                "NothingToRepair",
                f"{self._database} is there already, and --new-volume says that the folder is new. Nothing changed.",
            )

    def _classify(self) -> str:
        """The kind of damage.

        Raises:
            RefusedError: there is none that a restore is the cure for.
        """
        report = self._report()
        finding = report.finding
        if finding.damage == "wrong-volume" and not self._wanted.new_volume:
            raise RefusedError("WrongVolume", f"{'; '.join(finding.problems)} Nothing was changed.")
        if self._wanted.backup is None and finding.is_good:
            raise RefusedError(
                "NothingToRepair",
                f"{self._database} passes every check ({report.documents:,} documents, change {report.seq:,}). "
                "Name a backup (--backup latest) to go back to it all the same.",
            )
        if self._wanted.backup is None and finding.damage == "index":
            raise RefusedError(
                "ReindexSuffices",
                f"Only indexes are damaged ({finding.problems[0]}), and no row is lost: run `maintain reindex`.",
            )
        return finding.damage

    def _report(self) -> Report:
        try:
            floors = floors_of(self._backup_dir)
            return classify(self._database, floors=floors)
        except PermissionError as error:
            raise RefusedError(
                "NotReadable", f"{error}: its content is not known to be damaged. Give it back to the service's user."
            ) from error

    def _require_space(self, chosen: Chosen) -> None:
        shipped = sum(path.stat().st_size for path in (self._backup_dir / "changes").rglob("*.jsonl*"))
        needed = chosen.manifest.size_bytes * 11 // 10 + SHIPPED_GROWTH * shipped + RESERVE_BYTES
        free = shutil.disk_usage(self._database.parent).free
        if free < needed:
            raise RefusedError(
                "DiskFull",
                f"{self._database.parent} has {free / MIB:,.0f} MiB free, the new file may need {needed / MIB:,.0f}. "
                "Nothing was changed. Free some space or enlarge the volume, and run it again.",
            )

    def _merged_copy(self, chosen: Chosen, sources: Sources, copy: Path, steps: Steps) -> tuple[Sources, _Counts]:
        """The copy with as much merged as passes the check, and what that was."""
        plans = [sources, sources.without_salvage(), sources.without_salvage().without_shipped()]
        if self._wanted.only_backup:
            plans = plans[-1:]
        for plan in plans:
            with steps.step("copy"):
                copy_file(chosen.path / DATABASE, copy)
                if sha256_of(copy) != chosen.manifest.sha256:
                    raise RefusedError("NoVerifiedBackup", f"{chosen.path} changed while it was copied. Try again.")
            with steps.step("merge"):
                counts = self._merge(chosen, plan, copy)
            with steps.step("check"):
                contents, problem = verify_database(copy)
            if contents is not None and problem is None:
                return plan, replace(counts, documents=contents.counts["documents"])
            steps.progress(f"with what was merged it does not pass ({problem}): once more with less")
        raise RefusedError("NoVerifiedBackup", f"The copy of {chosen.manifest.id} does not pass its check.")

    def _merge(self, chosen: Chosen, plan: Sources, copy: Path) -> _Counts:
        connection = Connection(copy)
        try:
            # The copy is whole or thrown away: it needs no journal, and one sync at the end.
            connection.execute("PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF")
            migrate(connection)
            with connection.transaction():
                renew_identity(connection)
                last_chunk = issued(connection).get("chunks", 0)
                raise_sequences(connection, plan.issued, is_known=plan.is_known)
                shipped = merge(connection, plan.shipped(), plan.recovered.shipped)
                connection.execute("DELETE FROM outbox")  # they were shipped before, under the old identity
                salvaged = merge(connection, plan.salvaged(), last_numbers(plan.salvaged()))
                carried = carry_vectors(connection, plan.damaged, last_chunk) if plan.damaged else 0
                announce(connection, self._wanted.attempt, chosen.manifest.id)
        finally:
            connection.close()
        sync_file(copy)
        return _Counts(shipped.changes, salvaged.documents, carried)

    def _require_approval(self, loss: Loss, measured: dict[str, object]) -> None:
        if loss.rpo_seconds <= LONGEST_LOSS_SECONDS or self._wanted.approve_loss:
            return
        upper = "an unknown number of" if loss.documents_upper is None else f"up to {loss.documents_upper:,}"
        raise RefusedError(
            "ExpectedLossTooHigh",
            f"{upper} documents from {loss.rpo_seconds / 3600:.1f} h may be lost, the limit is "
            f"{LONGEST_LOSS_SECONDS / 3600:.0f} h. Nothing was changed. Approve it with --approve-loss.",
            measured,
        )
