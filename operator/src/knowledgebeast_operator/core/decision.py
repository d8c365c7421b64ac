"""What `decide` can answer for one runbook and its incident, if there is one.

The shell turns each into writes: Open creates the Incident; Begin writes the intent with the resourceVersion that was
read, so that of two operators one loses; Perform executes an attempt that has been written; the rest update its status.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from knowledgebeast_operator.core.ledger import Attempt, DataLoss, Escalation, Evidence, Severity


@dataclass(frozen=True, slots=True)
class Healthy:
    """Nothing is wrong and nothing is open."""

    message: str


@dataclass(frozen=True, slots=True)
class Open:
    """The signal has been bad for long enough: an Incident begins. It was first seen bad at `detected_at`."""

    reason: str
    message: str
    detected_at: datetime
    evidence: tuple[Evidence, ...]
    severity: Severity
    caused_by: str | None = None  # the open Incident that explains it


@dataclass(frozen=True, slots=True)
class Wait:
    """Something takes its time: a hold, a settle time, a cool-down, a healthy period."""

    reason: str
    message: str
    until: datetime | None = None
    healthy_since: datetime | None = None  # while the healthy period runs


@dataclass(frozen=True, slots=True)
class Blocked:
    """An option fits, but a guard forbids it."""

    reason: str
    message: str
    is_right: bool = False  # nothing is to be done, so that nobody is called however long it lasts


@dataclass(frozen=True, slots=True)
class Begin:
    """Write this attempt down before anything is done (intent first)."""

    attempt: Attempt
    passed_over: tuple[tuple[str, str], ...] = ()  # options that did not fit: code and name, and why


@dataclass(frozen=True, slots=True)
class Perform:
    """Execute an attempt that has been written down and is not known to have been carried out.

    Its transition is applied once the API server has confirmed the action, also when the target was gone already; of a
    task, once it has ended.
    """

    attempt: Attempt
    loss: DataLoss | None = None


@dataclass(frozen=True, slots=True)
class Revert:
    """Write down that the attempt did not help and is undone (intent first)."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Undo:
    """Execute the inverse of an attempt of which that is written down. Its transition follows the confirmation."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Conclude:
    """The attempt is over; it carries its outcome, message and SLIs afterwards.

    An attempt that was not written down before is added: a dry run is concluded without having begun.
    """

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Escalate:
    """A human is needed."""

    escalation: Escalation


@dataclass(frozen=True, slots=True)
class Worsen:
    """The incident is more severe than is written."""

    severity: Severity
    message: str


@dataclass(frozen=True, slots=True)
class Resolve:
    """The signal has been good for the healthy period: the Incident closes."""

    message: str


@dataclass(frozen=True, slots=True)
class Uncertain:
    """A signal is unknown: nothing is done, and it is said which."""

    message: str


Decision: TypeAlias = (
    Healthy
    | Open
    | Wait
    | Blocked
    | Begin
    | Perform
    | Revert
    | Undo
    | Conclude
    | Escalate
    | Worsen
    | Resolve
    | Uncertain
)
