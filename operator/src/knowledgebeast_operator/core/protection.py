"""What is known about the safety of the data: checks of the database, backups, restore drills. Values only.

They are read from what the Jobs of these tasks reported, and recalled from the object's status when the Jobs are gone.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from knowledgebeast_operator.core.fact import Fact, Unknown


class Damage(StrEnum):
    """What a check found, as `knowledgebeast maintain check` names it."""

    NONE = "none"
    INDEX = "index"
    PAGES = "pages"
    MISSING = "missing"
    EMPTY = "empty"
    NOT_A_DATABASE = "not-a-database"
    SCHEMA = "schema"
    WRONG_VOLUME = "wrong-volume"


@dataclass(frozen=True, slots=True)
class IntegrityCheck:
    """The result of one whole check; `at` is when it ended, `attempt` names its Job."""

    damage: Damage
    problems: tuple[str, ...]
    seq: int | None  # of the last change; None when it could not be read
    at: datetime
    attempt: str


@dataclass(frozen=True, slots=True)
class VerifiedBackup:
    """A backup that passed its checks when it was made."""

    id: str
    at: datetime
    seq: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class RemoteCopy:
    """A backup that is in object storage, too; `at` is when the backup was made, `location` bucket and prefix."""

    id: str
    at: datetime
    size_bytes: int
    location: str


@dataclass(frozen=True, slots=True)
class RestoreDrill:
    """A trial restore that went well."""

    backup_id: str
    at: datetime
    duration_seconds: float
    documents: int


@dataclass(frozen=True, slots=True)
class FailedRun:
    """The last run of a task, when it failed: CamelCase reason, and the words of the task or of Kubernetes."""

    attempt: str
    at: datetime
    reason: str
    message: str


NOT_CHECKED: Final = Unknown("integrity", "NotChecked", "The database has not been checked yet.")
NOT_BACKED_UP: Final = Unknown("backup", "NoBackupYet", "No verified backup has been seen yet.")
REMOTE_NOT_CONFIGURED: Final = Unknown(
    "remote copy",
    "NotConfigured",
    "spec.database.backup.remote is not set: backups are on their volume and nowhere else.",
)
NO_REMOTE_COPY: Final = Unknown(
    "remote copy", "NoCopyYet", "No copy of a backup has been seen there yet; the next backup makes one."
)
NOT_DRILLED: Final = Unknown("drill", "NoDrillYet", "No restore drill has been seen yet.")


@dataclass(frozen=True, slots=True)
class Protection:
    """Backups and drills of one object. The fact's time is when the backup was made, or the drill ended.

    A failed run is told only while no later one went well.
    """

    backup: Fact[VerifiedBackup] = NOT_BACKED_UP
    drill: Fact[RestoreDrill] = NOT_DRILLED
    failed_backup: FailedRun | None = None
    failed_drill: FailedRun | None = None
    failed_check: FailedRun | None = None  # one that ended without a verdict
    backup_due: datetime | None = None  # when the newest backup becomes too old; None: its schedule is never due
    drill_due: datetime | None = None
    copy: Fact[RemoteCopy] = REMOTE_NOT_CONFIGURED
    failed_copy: FailedRun | None = None  # the newest backup is on its volume and not there


NOTHING_SEEN: Final = Protection()
