"""What an executor can say about an action that it was asked to carry out."""

from dataclasses import dataclass
from typing import TypeAlias

from knowledgebeast_operator.core.ledger import DataLoss, TaskReport


@dataclass(frozen=True, slots=True)
class Done:
    """The API server confirmed it, or there is nothing left to do. Of a task: it has ended, and this is its report."""

    message: str
    report: TaskReport | None = None
    loss: DataLoss | None = None


@dataclass(frozen=True, slots=True)
class InProgress:
    """It goes on. Asked again, the executor takes the next step from what is in the cluster then."""

    stage: str  # CamelCase: the step that it is at
    message: str


@dataclass(frozen=True, slots=True)
class Withheld:
    """Nothing was sent: what was decided no longer fits what is live."""

    reason: str
    message: str


Result: TypeAlias = Done | InProgress | Withheld
