"""What the maintenance tasks said about the data: results in the termination messages of their pods, newest first.

Their Jobs and pods go sooner or later; what is known is recalled from the object's status then.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Annotated, Final, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from knowledgebeast_operator.cluster.client import Json
from knowledgebeast_operator.cluster.kinds import CRON_JOB
from knowledgebeast_operator.cluster.objects import LiveOperand, LivePod
from knowledgebeast_operator.core.fact import Fact, Known, Unknown
from knowledgebeast_operator.core.protection import (
    NOT_BACKED_UP,
    NOT_CHECKED,
    NOT_DRILLED,
    Damage,
    FailedRun,
    IntegrityCheck,
    Protection,
    RestoreDrill,
    VerifiedBackup,
)
from knowledgebeast_operator.custom_resource import KnowledgeBeast, names
from knowledgebeast_operator.custom_resource.schedule import next_due
from knowledgebeast_operator.operands.cron_jobs import BACKUP, CHECK, DRILL
from knowledgebeast_operator.signals.remote_copies import observe_copies
from knowledgebeast_operator.signals.task_runs import Run, runs_of

T = TypeVar("T")

MISSED_RUNS: Final = 2
"""After so many times that a task was due since its last success, something is wrong."""

Natural = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class _Check(_Part):
    damage: Damage
    problems: tuple[str, ...] = ()
    seq: Natural | None = None


class _Backup(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    backup_id: str
    created_at: AwareDatetime
    seq: Natural
    bytes: Natural


class _Drill(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    backup_id: str
    documents: Natural
    seconds: Annotated[float, Field(ge=0)]


def observe_protection(
    knowledgebeast: KnowledgeBeast, pods: Iterable[LivePod], operands: Iterable[LiveOperand], status: Json
) -> tuple[Fact[IntegrityCheck], Protection]:
    """The last check, the newest verified backup and its copy elsewhere, the last drill.

    Args:
        knowledgebeast: for the schedules.
        pods: its pods.
        operands: its operands; a task is due from when its CronJob was made.
        status: the object's status as it is.
    """
    present = tuple(pods)
    recalled = _Recalled.read(status)
    checks, failed_check = _newest(runs_of(CHECK, present), _check)
    runs = runs_of(BACKUP, present)
    backups, failed_backup = _newest(runs, _backup)
    drills, failed_drill = _newest(runs_of(DRILL, present), _drill)
    copy, failed_copy = observe_copies(knowledgebeast.spec.database.backup.remote, runs, status)
    backup = _later(backups, recalled.backup(), NOT_BACKED_UP)
    drill = _later(drills, recalled.drill(), NOT_DRILLED)
    since = {operand.metadata.name: operand.metadata.creation_timestamp for operand in operands if _is_cron(operand)}
    database, name = knowledgebeast.spec.database, knowledgebeast.name
    protection = Protection(
        backup=backup,
        drill=drill,
        failed_backup=failed_backup,
        failed_drill=failed_drill,
        failed_check=failed_check,
        copy=copy,
        failed_copy=failed_copy,
        backup_due=_due(database.backup.schedule, backup, since.get(names.cron_job_name(name, BACKUP))),
        drill_due=_due(database.restore_drill_schedule, drill, since.get(names.cron_job_name(name, DRILL))),
    )
    return _later(checks, recalled.check(), NOT_CHECKED), protection


def _is_cron(operand: LiveOperand) -> bool:
    return operand.kind == CRON_JOB.name


def _due(schedule: str, fact: Fact[T], since: datetime | None) -> datetime | None:
    begin = fact.at if isinstance(fact, Known) else since
    return None if begin is None else next_due(schedule, begin, times=MISSED_RUNS)


def _newest(runs: list[Run], read: Callable[[Run], T | None]) -> tuple[Known[T] | None, FailedRun | None]:
    """What the newest run with an answer says, and the newest run when that one has none."""
    for run in runs:
        value = read(run)
        if value is not None:
            return Known(value, _time_of(value, run)), None if run is runs[0] else runs[0].failed()
    return None, runs[0].failed() if runs else None


def _time_of(value: object, run: Run) -> datetime:
    return value.at if isinstance(value, VerifiedBackup) else run.ended_at


def _check(run: Run) -> IntegrityCheck | None:
    """Damage is an answer too; a check that could not look has none."""
    found = run.measured(_Check)
    if found is None:
        return None
    return IntegrityCheck(found.damage, found.problems, found.seq, run.ended_at, run.attempt)


def _backup(run: Run) -> VerifiedBackup | None:
    found = run.measured(_Backup) if run.is_good else None
    return None if found is None else VerifiedBackup(found.backup_id, found.created_at, found.seq, found.bytes)


def _drill(run: Run) -> RestoreDrill | None:
    found = run.measured(_Drill) if run.is_good else None
    return None if found is None else RestoreDrill(found.backup_id, run.ended_at, found.seconds, found.documents)


def _later(seen: Known[T] | None, recalled: Known[T] | None, otherwise: Unknown) -> Fact[T]:
    known = [fact for fact in (seen, recalled) if fact is not None]
    return max(known, key=lambda fact: fact.at, default=otherwise)


class _RecalledBackup(_Part):
    id: str
    at: AwareDatetime
    seq: Natural = 0
    bytes: Natural = 0


class _RecalledDrill(_Part):
    backup_id: str
    at: AwareDatetime
    seconds: float = 0
    documents: Natural = 0


class _RecalledCheck(_Check):
    attempt: str
    at: AwareDatetime


class _Recalled(_Part):
    """`status.backups`, as `record.view` writes it."""

    last_verified: _RecalledBackup | None = None
    last_drill: _RecalledDrill | None = None
    last_check: _RecalledCheck | None = None

    @classmethod
    def read(cls, status: Json) -> "_Recalled":
        """Nothing where it cannot be read: it is seen anew with the next run."""
        try:
            return cls.model_validate(status.get("backups") or {})
        except ValidationError:
            return cls()

    def backup(self) -> Known[VerifiedBackup] | None:
        found = self.last_verified
        return None if found is None else Known(VerifiedBackup(found.id, found.at, found.seq, found.bytes), found.at)

    def drill(self) -> Known[RestoreDrill] | None:
        found = self.last_drill
        if found is None:
            return None
        return Known(RestoreDrill(found.backup_id, found.at, found.seconds, found.documents), found.at)

    def check(self) -> Known[IntegrityCheck] | None:
        found = self.last_check
        if found is None:
            return None
        return Known(IntegrityCheck(found.damage, found.problems, found.seq, found.at, found.attempt), found.at)
