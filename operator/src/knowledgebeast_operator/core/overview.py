"""One object after a tick: what `conditions` and `summary` are made from."""

from dataclasses import dataclass

from knowledgebeast_operator.core.decision import Decision
from knowledgebeast_operator.core.facts import Facts
from knowledgebeast_operator.core.ledger import Attempt, IncidentRecord, Journal, Severity
from knowledgebeast_operator.core.policy import Policy
from knowledgebeast_operator.core.runbook import Runbook
from knowledgebeast_operator.core.situation import Situation


@dataclass(frozen=True, slots=True)
class Turn:
    """One runbook's turn in a tick: what it saw, what was decided, and its open incident after that."""

    situation: Situation
    decision: Decision
    incident: IncidentRecord | None


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """The database of a new object is being filled from a backup, or cannot be: reason and sentence of Ready."""

    reason: str
    message: str
    needs_a_human: bool = False


@dataclass(frozen=True, slots=True)
class Operands:
    """The state of the objects that the operator applies."""

    is_applied: bool | None  # for this generation; None before the first try
    desired_service_pods: int
    in_progress: str | None = None  # a sentence: what has not reached its desired state yet
    problem: str | None = None  # a sentence: why it will not, and what a human has to do
    fenced_for: str | None = None  # the attempt for which every pod is kept away from the database
    bootstrap: Bootstrap | None = None  # before the first start


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything about one object at one moment."""

    facts: Facts
    policy: Policy
    journal: Journal
    operands: Operands
    runbooks: tuple[Runbook, ...]
    turns: tuple[Turn, ...] = ()  # one per runbook; none before the first assessment

    @property
    def incidents(self) -> tuple[IncidentRecord, ...]:
        """Open ones, the worst first, then the oldest."""
        found = [turn.incident for turn in self.turns if turn.incident is not None and turn.incident.is_open]
        return tuple(sorted(found, key=lambda incident: (list(Severity).index(incident.severity), incident.opened_at)))

    @property
    def last_attempt(self) -> Attempt | None:
        """The one begun last, over all incidents, whether or not these still exist."""
        attempts = [*self.journal.attempts, *(a for incident in self.incidents for a in incident.attempts)]
        return max(attempts, key=lambda attempt: attempt.started, default=None)
