# ruff: noqa: N818  (the names say what happened; that they are errors is said by where they stand)
"""What can go wrong on the I/O side. Adapters translate their libraries' errors into these; the loop counts them.

OperatorError
├── ClusterError                 an answer of the API server that is not a success
│   ├── NotFound                 404
│   ├── AlreadyExists            409 AlreadyExists
│   ├── Conflict                 409 Conflict: a precondition (uid, resourceVersion) did not hold
│   ├── ApplyConflict            409 of a server-side apply: others own some of the fields
│   └── Rejected                 403 or 422: it will be refused again until somebody changes something
├── ClusterUnreachable           no answer, a time-out, or a 429/5xx: worth another try
├── ClaimLost                    somebody else wrote the Incident first: the attempt is theirs
├── NotLeader                    the lease is not certainly ours: nothing destructive may be sent
└── PrometheusUnreachable        no usable answer from Prometheus
"""

from dataclasses import dataclass


class OperatorError(Exception):
    """Base of all errors that this package raises on purpose."""


class ClusterError(OperatorError):
    """The API server answered with an error; `status` is the HTTP code, `reason` the word of its Status object."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class NotFound(ClusterError):
    """The object does not exist."""


class AlreadyExists(ClusterError):
    """An object of this name exists: for objects with deterministic names, the work has been started."""


class Conflict(ClusterError):
    """A precondition did not hold: the object changed, or is another one under the same name."""


@dataclass(frozen=True, slots=True)
class FieldConflict:
    """One field that another field manager owns, e.g. `.spec.replicas` owned by `kubectl-edit`."""

    field: str
    manager: str


class ApplyConflict(ClusterError):
    """A server-side apply without force met fields that others own."""

    def __init__(self, status: int, reason: str, message: str, conflicts: tuple[FieldConflict, ...]) -> None:
        super().__init__(status, reason, message)
        self.conflicts = conflicts


class Rejected(ClusterError):
    """Forbidden or invalid: repeating it unchanged is of no use."""


class ClusterUnreachable(OperatorError):
    """The API server did not answer in time, or said that it cannot now."""


class ClaimLost(OperatorError):
    """The Incident changed since it was read, so that what was decided about it no longer counts."""


class NotLeader(OperatorError):
    """This process does not certainly hold the lease."""


class PrometheusUnreachable(OperatorError):
    """Prometheus did not answer in time, or not with a result."""
