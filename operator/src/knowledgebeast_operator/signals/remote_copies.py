"""What the backups said about their copies in object storage: read from their results, recalled from the status."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from knowledgebeast_operator.cluster.client import Json
from knowledgebeast_operator.core.fact import Fact, Known
from knowledgebeast_operator.core.protection import (
    NO_REMOTE_COPY,
    REMOTE_NOT_CONFIGURED,
    FailedRun,
    RemoteCopy,
)
from knowledgebeast_operator.custom_resource.object_storage import ObjectStorage
from knowledgebeast_operator.signals.task_runs import MAX_MESSAGE, Run

COPY_FAILED = "CopyFailed"

Natural = Annotated[int, Field(ge=0)]


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    ok: bool
    to: str
    error: str = ""


class _Backup(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    backup_id: str
    created_at: AwareDatetime
    bytes: Natural
    remote: _Said

    def copy_there(self) -> RemoteCopy:
        return RemoteCopy(self.backup_id, self.created_at, self.bytes, self.remote.to)


class _Recalled(BaseModel):
    """`status.backups.lastRemote`, as `record.protection_view` writes it."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    id: str
    at: AwareDatetime
    location: str
    bytes: Natural = 0


def observe_copies(
    remote: ObjectStorage | None, runs: Iterable[Run], status: Json
) -> tuple[Fact[RemoteCopy], FailedRun | None]:
    """The newest copy in the place that the spec names now, and the newest try when that one failed.

    Args:
        remote: that place.
        runs: of the backup, newest first.
        status: the object's status as it is.
    """
    if remote is None:
        return REMOTE_NOT_CONFIGURED, None
    told = [(run, said) for run in runs if (said := _told(run)) is not None and said.remote.to == remote.location]
    failed = _failed(*told[0]) if told and not told[0][1].remote.ok else None
    seen = [said.copy_there() for _, said in told if said.remote.ok]
    recalled = _recalled(status, remote.location)
    if recalled is not None:
        seen.append(recalled)
    if not seen:
        return NO_REMOTE_COPY, failed
    newest = max(seen, key=lambda copy: copy.at)
    return Known(newest, newest.at), failed


def _told(run: Run) -> _Backup | None:
    """None for a backup that was not to be copied, or failed itself."""
    return run.measured(_Backup) if run.is_good else None


def _failed(run: Run, said: _Backup) -> FailedRun:
    return FailedRun(run.attempt, run.ended_at, COPY_FAILED, said.remote.error[:MAX_MESSAGE])


def _recalled(status: Json, location: str) -> RemoteCopy | None:
    backups = status.get("backups")
    try:
        found = _Recalled.model_validate(backups["lastRemote"] if isinstance(backups, dict) else None)
    except (KeyError, ValidationError):
        return None
    return RemoteCopy(found.id, found.at, found.bytes, found.location) if found.location == location else None
