"""The Job that fills the database of a new object from another one's backups (`spec.bootstrap.restoreFrom`)."""

from dataclasses import replace
from typing import Final

from knowledgebeast_operator.custom_resource import KnowledgeBeast, names
from knowledgebeast_operator.custom_resource.names import BACKUPS
from knowledgebeast_operator.custom_resource.spec import RestoreFrom
from knowledgebeast_operator.operands import pods
from knowledgebeast_operator.operands.effective import Effective
from knowledgebeast_operator.operands.maintenance import BesideObjects, MaintenanceTask, job
from knowledgebeast_operator.operands.manifest import Manifest

TASK: Final = "restore"

DEADLINE_SECONDS: Final = 4 * 3600
"""The longest recovery time that the runbook allows."""


def bootstrap_job(kb: KnowledgeBeast, effective: Effective, source: RestoreFrom) -> Manifest:
    """Restores onto the volume of a new object, and refuses one that holds a database already."""
    chosen = () if source.backup is None else ("--backup", source.backup, "--only-backup")
    task = MaintenanceTask(
        attempt_id=names.bootstrap_job_name(kb.name),
        task=TASK,
        # However old the backup is, nothing is lost here by taking it.
        arguments=("--new-volume", "--approve-loss", *_folders(kb, source), *chosen),
        deadline_seconds=DEADLINE_SECONDS,
    )
    if source.claim_name is None:
        # A set is fetched onto a volume that goes with the pod: the object's own backups begin with its own database.
        task = replace(task, remote=source.remote, needs_remote=True, has_scratch=True)
        return job(kb, effective, task, BesideObjects(()))
    own = names.claim_name(kb.name, BACKUPS)
    task = replace(task, source_claim=None if source.claim_name == own else source.claim_name)
    return job(kb, effective, task, BesideObjects(owner_of(source.claim_name)))


def _folders(kb: KnowledgeBeast, source: RestoreFrom) -> tuple[str, ...]:
    """Where the sets are, and where what was restored is backed up at once.

    A source claim is only read. It may be in use by the object that it belongs to, so the pod goes to that one's node.
    The object's own claim of backups may be named too: then its database was lost and its backups were not.
    """
    own = ("--own-backup-dir", pods.BACKUP_FOLDER)
    if source.claim_name is None:
        return ("--from-remote", "--backup-dir", pods.SCRATCH_FOLDER, *own)
    is_own = source.claim_name == names.claim_name(kb.name, BACKUPS)
    return ("--backup-dir", pods.BACKUP_FOLDER if is_own else pods.SOURCE_FOLDER, *own)


def owner_of(claim: str) -> tuple[str, ...]:
    """The object whose backups lie on a claim, by the claim's name; none for a claim of somebody else's making."""
    suffix = f"-{BACKUPS}"
    return (claim.removesuffix(suffix),) if claim.endswith(suffix) else ()
