"""A backup right after a restore, before anybody writes.

The restored database has a new identity (see `renew`), and what is shipped under it is worth nothing without a set of
that identity to begin from: damage within the hour would cost all that was written since the restore.
"""

from dataclasses import replace
from pathlib import Path
from typing import Final

from knowledgebeast_service.maintenance.backups.create import backup
from knowledgebeast_service.maintenance.backups.retention import Retention
from knowledgebeast_service.maintenance.restore.fenced import Progress
from knowledgebeast_service.maintenance.result import ATTEMPT_ID_LENGTH, TaskResult

SUFFIX: Final = "-base"
KEEP_ALL: Final = Retention(keep_days=36_500, keep_daily_days=36_500)
"""This is no time to remove what an incident may still need: the next backup by the clock does it."""


def with_base(restored: TaskResult, database: Path, backup_dir: Path, progress: Progress) -> TaskResult:
    """The result of a restore, with the backup after it as `base_backup_id`.

    One that fails takes nothing from the restore, and stands among its findings.
    """
    if not restored.ok:
        return restored
    progress("base")
    attempt = f"{restored.attempt[: ATTEMPT_ID_LENGTH - len(SUFFIX)]}{SUFFIX}"
    # Not to object storage: nobody is served before this ends, and the next backup by the clock goes there.
    made = backup(database, backup_dir, attempt, KEEP_ALL)
    if made.ok:
        said: dict[str, object] = {"base_backup_id": made.measured["backup_id"]}
    else:
        said = {"findings": [f"what was restored has no backup yet ({made.reason}: {made.refused}): make one"]}
    return replace(restored, measured=restored.measured | said)
