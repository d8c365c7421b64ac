"""The conditions BackupFresh, BackupCopied and RestoreTested.

Their messages hold times rather than ages: the status is written only when something has changed.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from knowledgebeast_operator.core.conditions import Observed, Status
from knowledgebeast_operator.core.fact import Unknown
from knowledgebeast_operator.core.protection import FailedRun, Protection

BACKUP_FRESH: Final = "BackupFresh"
BACKUP_COPIED: Final = "BackupCopied"
RESTORE_TESTED: Final = "RestoreTested"

MIB: Final = 1024 * 1024


def protection_conditions(protection: Protection, now: datetime) -> Mapping[str, Observed]:
    """All of them, by their names."""
    return {
        BACKUP_FRESH: backup_fresh(protection, now),
        BACKUP_COPIED: backup_copied(protection),
        RESTORE_TESTED: restore_tested(protection, now),
    }


def backup_fresh(protection: Protection, now: datetime) -> Observed:
    """Whether a verified backup was made in one of the last two runs that were due."""
    newest, due, failed = protection.backup, protection.backup_due, protection.failed_backup
    if isinstance(newest, Unknown):
        message = f"{newest.message}{_until(due)}{_why(failed)}"
        return _missing(newest.reason, message, due, now)
    backup = newest.value
    shown = f"{backup.id} (change {backup.seq}, {backup.size_bytes / MIB:,.1f} MiB)"
    if due is not None and now > due:
        message = (
            f"The newest verified backup is {shown}, of {_time(backup.at)}; since then two more were due, "
            f"the second at {_time(due)}.{_why(failed)}"
        )
        return Observed(status=Status.FALSE, reason="BackupOverdue", message=message)
    message = f"{shown} was made and verified at {_time(backup.at)}.{_why(failed)}"
    return Observed(status=Status.TRUE, reason="Verified", message=message)


def backup_copied(protection: Protection) -> Observed:
    """Whether the last backup is in object storage, too. One that is not made is told by BackupFresh."""
    copy, failed = protection.copy, protection.failed_copy
    if failed is not None:
        newest = "" if isinstance(copy, Unknown) else f" The newest copy is {copy.value.id}, of {_time(copy.value.at)}."
        message = (
            f"The backup {failed.attempt} is on its volume and was not copied at {_time(failed.at)}: {failed.message}."
            f"{newest} The next backup tries it again."
        )
        return Observed(status=Status.FALSE, reason=failed.reason, message=message)
    if isinstance(copy, Unknown):
        return Observed(status=Status.UNKNOWN, reason=copy.reason, message=copy.message)
    found = copy.value
    message = f"{found.id} ({found.size_bytes / MIB:,.1f} MiB), made at {_time(found.at)}, is in {found.location}."
    return Observed(status=Status.TRUE, reason="Copied", message=message)


def restore_tested(protection: Protection, now: datetime) -> Observed:
    """Whether a restore went well in one of the last two drills that were due, and no later one failed."""
    last, due, failed = protection.drill, protection.drill_due, protection.failed_drill
    if failed is not None:
        before = "" if isinstance(last, Unknown) else f" The last one that went well ended at {_time(last.value.at)}."
        message = f"The restore drill {failed.attempt} failed at {_time(failed.at)}: {failed.message}.{before}"
        return Observed(status=Status.FALSE, reason="DrillFailed", message=message)
    if isinstance(last, Unknown):
        return _missing(last.reason, f"{last.message}{_until(due)}", due, now)
    drill = last.value
    took = f"{drill.backup_id} was restored in {drill.duration_seconds:.1f} s, with {drill.documents:,} documents"
    if due is not None and now > due:
        message = (
            f"The last drill was at {_time(drill.at)} ({took}); since then two more were due, the second at "
            f"{_time(due)}. `kubectl knowledgebeast drill` runs one now."
        )
        return Observed(status=Status.FALSE, reason="DrillOverdue", message=message)
    return Observed(status=Status.TRUE, reason="Restored", message=f"{took}, at {_time(drill.at)}.")


def _missing(reason: str, message: str, due: datetime | None, now: datetime) -> Observed:
    """There was none yet: unknown until two were due."""
    is_late = due is not None and now > due
    return Observed(status=Status.FALSE if is_late else Status.UNKNOWN, reason=reason, message=message)


def _until(due: datetime | None) -> str:
    return "" if due is None else f" Two will have been due by {_time(due)}."


def _why(failed: FailedRun | None) -> str:
    if failed is None:
        return ""
    return f" The last run, {failed.attempt}, failed at {_time(failed.at)} ({failed.reason}): {failed.message}."


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
