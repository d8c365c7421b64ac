"""The API server's audit log: who did what."""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import Field

from harness.objects import Part

OPERATOR = "system:serviceaccount:knowledgebeast-system:knowledgebeast-operator"
WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
OWN_RECORDS = frozenset({"events", "incidents", "incidents/status", "knowledgebeasts/status", "leases"})
"""What the operator writes about its work. All other writes are to operands, or to the object of a user."""


class User(Part):
    username: str = ""
    extra: dict[str, tuple[str, ...]] = Field(default_factory=dict)

    @property
    def pod(self) -> str:
        """Whose token it is; empty for people."""
        return next(iter(self.extra.get("authentication.kubernetes.io/pod-name", ())), "")


class Reference(Part):
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    api_group: str = ""


class ResponseStatus(Part):
    code: int = 0
    reason: str = ""


class Call(Part):
    """One request, as the log has it once it was answered."""

    stage: str
    verb: str
    user: User = User()
    user_agent: str = ""
    request_uri: str = Field(default="", alias="requestURI")
    object_ref: Reference = Reference()
    response_status: ResponseStatus = ResponseStatus()
    request_received_timestamp: datetime

    @property
    def resource(self) -> str:
        """`pods`, or `pods/exec` with a subresource."""
        ref = self.object_ref
        return f"{ref.resource}/{ref.subresource}" if ref.subresource else ref.resource

    @property
    def is_write(self) -> bool:
        return self.verb in WRITES

    @property
    def is_granted(self) -> bool:
        return self.response_status.code != 403

    @property
    def is_success(self) -> bool:
        return 200 <= self.response_status.code < 300

    def __str__(self) -> str:
        ref = self.object_ref
        where = f"{ref.namespace}/{ref.name}" if ref.namespace else ref.name
        moment = self.request_received_timestamp
        return f"{moment:%H:%M:%S} {self.verb} {self.resource} {where} -> {self.response_status.code}"


@dataclass(frozen=True)
class AuditLog:
    """The log file and the files it was rotated to."""

    file: Path

    def calls(self, *, since: datetime, user: str | None = None, namespaces: Collection[str] = ()) -> list[Call]:
        """All answered requests received since then, oldest first: of everybody or of one user, about these namespaces.

        A watch is in it when it begins, and again when it ends.
        """
        # A rotated file was last written to when it was rotated.
        files = [item for item in self._files() if item.stat().st_mtime >= since.timestamp()]
        found = (call for file in files for call in _read(file, user, namespaces))
        return sorted(
            (call for call in found if call.request_received_timestamp >= since),
            key=lambda call: call.request_received_timestamp,
        )

    def _files(self) -> Sequence[Path]:
        return sorted(self.file.parent.glob(f"{self.file.stem}*{self.file.suffix}"))


def operand_writes(calls: Iterable[Call]) -> list[Call]:
    """Writes of the operator to anything but its own records."""
    return [c for c in calls if c.user.username == OPERATOR and c.is_write and c.resource not in OWN_RECORDS]


def pod_deletions(calls: Iterable[Call], pod: str, *, user: str | None = None) -> list[Call]:
    """Successful deletions of a pod of that name. The log has the name; the uid is the time between two of them."""
    return [
        call
        for call in calls
        if call.verb == "delete"
        and call.resource == "pods"
        and call.object_ref.name == pod
        and call.is_success
        and (user is None or call.user.username == user)
    ]


def now() -> datetime:
    """A mark for `since`; the log counts in microseconds and its clock is this machine's."""
    return datetime.now(UTC) - timedelta(milliseconds=1)


def _read(file: Path, user: str | None, namespaces: Collection[str]) -> Iterator[Call]:
    quoted = [json.dumps(namespace) for namespace in namespaces]
    with file.open() as lines:
        for line in lines:
            # most of a large log is about others; parsing it all would cost minutes
            if (user is not None and user not in line) or not line.endswith("\n"):
                continue
            if quoted and not any(namespace in line for namespace in quoted):
                continue
            call = Call.model_validate(json.loads(line))
            # a watch is complete when it ends, which may be long after the test
            stages = ("ResponseStarted", "ResponseComplete") if call.verb == "watch" else ("ResponseComplete",)
            is_meant = user in (None, call.user.username) and (not quoted or call.object_ref.namespace in namespaces)
            if call.stage in stages and is_meant:
                yield call
