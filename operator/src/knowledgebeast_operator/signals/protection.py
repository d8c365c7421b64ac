"""What the maintenance tasks said about the data: results in the termination messages of their pods, newest first.

Their Jobs and pods go sooner or later; what is known is recalled from the object's status then.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
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
from knowledgebeast_operator.core.task_result import TaskMessage
from knowledgebeast_operator.custom_resource import KnowledgeBeast, names
from knowledgebeast_operator.custom_resource.names import ATTEMPT_LABEL, TASK_LABEL
from knowledgebeast_operator.custom_resource.schedule import next_due
from knowledgebeast_operator.operands.cron_jobs import BACKUP, CHECK, DRILL, JOB_NAME_LABEL

T = TypeVar("T")

MISSED_RUNS: Final = 2
"""After so many times that a task was due since its last success, something is wrong."""

MAX_MESSAGE: Final = 512

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


@dataclass(frozen=True, slots=True)
class _Run:
    """One pod of a task that has ended."""

    attempt: str
    ended_at: datetime
    result: TaskMessage | None
    said: str  # by the task or by Kubernetes, where there is no result
    reason: str

    def failed(self) -> FailedRun:
        said = (self.result.refused if self.result is not None else None) or self.said
        reason = (self.result.reason if self.result is not None else None) or self.reason
        return FailedRun(self.attempt, self.ended_at, reason, said[:MAX_MESSAGE])


def observe_protection(
    knowledgebeast: KnowledgeBeast, pods: Iterable[LivePod], operands: Iterable[LiveOperand], status: Json
) -> tuple[Fact[IntegrityCheck], Protection]:
    """The last check, the newest verified backup, the last drill.

    Args:
        knowledgebeast: for the schedules.
        pods: its pods.
        operands: its operands; a task is due from when its CronJob was made.
        status: the object's status as it is.
    """
    present = tuple(pods)
    recalled = _Recalled.read(status)
    checks, failed_check = _newest(_runs(present, CHECK), _check)
    backups, failed_backup = _newest(_runs(present, BACKUP), _backup)
    drills, failed_drill = _newest(_runs(present, DRILL), _drill)
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
        backup_due=_due(database.backup.schedule, backup, since.get(names.cron_job_name(name, BACKUP))),
        drill_due=_due(database.restore_drill_schedule, drill, since.get(names.cron_job_name(name, DRILL))),
    )
    return _later(checks, recalled.check(), NOT_CHECKED), protection


def _is_cron(operand: LiveOperand) -> bool:
    return operand.kind == CRON_JOB.name


def _due(schedule: str, fact: Fact[T], since: datetime | None) -> datetime | None:
    begin = fact.at if isinstance(fact, Known) else since
    return None if begin is None else next_due(schedule, begin, times=MISSED_RUNS)


def _runs(pods: Iterable[LivePod], task: str) -> list[_Run]:
    """Those of a task that have ended, newest first."""
    found = (_run(pod) for pod in pods if pod.metadata.labels.get(TASK_LABEL) == task)
    return sorted((run for run in found if run is not None), key=lambda run: run.ended_at, reverse=True)


def _run(pod: LivePod) -> _Run | None:
    end = next((status.state.terminated for status in pod.status.container_statuses), None)
    if end is None or end.finished_at is None:
        return None
    labels, said = pod.metadata.labels, (end.message or "").strip()
    result, code = TaskMessage.read(said), end.exit_code
    if result is not None:
        why = f"it ended with exit code {code}"
    else:
        why = said.rpartition("\n")[2] or f"it left no result and ended with exit code {code}"
    return _Run(
        attempt=labels.get(ATTEMPT_LABEL) or labels.get(JOB_NAME_LABEL) or pod.metadata.name,
        ended_at=end.finished_at,
        result=result,
        said=why,
        reason=end.reason or "Error",
    )


def _newest(runs: list[_Run], read: Callable[[_Run], T | None]) -> tuple[Known[T] | None, FailedRun | None]:
    """What the newest run with an answer says, and the newest run when that one has none."""
    for run in runs:
        value = read(run)
        if value is not None:
            return Known(value, _time_of(value, run)), None if run is runs[0] else runs[0].failed()
    return None, runs[0].failed() if runs else None


def _time_of(value: object, run: _Run) -> datetime:
    return value.at if isinstance(value, VerifiedBackup) else run.ended_at


def _check(run: _Run) -> IntegrityCheck | None:
    """Damage is an answer too; a check that could not look has none."""
    found = _measured(run, _Check)
    if found is None:
        return None
    return IntegrityCheck(found.damage, found.problems, found.seq, run.ended_at, run.attempt)


def _backup(run: _Run) -> VerifiedBackup | None:
    found = _measured(run, _Backup) if run.result is not None and run.result.ok else None
    return None if found is None else VerifiedBackup(found.backup_id, found.created_at, found.seq, found.bytes)


def _drill(run: _Run) -> RestoreDrill | None:
    found = _measured(run, _Drill) if run.result is not None and run.result.ok else None
    return None if found is None else RestoreDrill(found.backup_id, run.ended_at, found.seconds, found.documents)


M = TypeVar("M", bound=BaseModel)


def _measured(run: _Run, model: type[M]) -> M | None:
    if run.result is None:
        return None
    try:
        return model.model_validate(run.result.measured)
    except ValidationError:
        return None


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
