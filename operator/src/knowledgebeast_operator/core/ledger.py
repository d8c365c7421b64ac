"""What has been done and what came of it: the status of an Incident, as values.

The Incident objects are the operator's memory. These models are their `status` (and the immutable `spec`) in
camelCase, so that writing one down is `model_dump(by_alias=True)`.
"""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from knowledgebeast_operator.core.actions import Action


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class Severity(StrEnum):
    """Runbook, "Incident Severity Levels"."""

    P0 = "P0"
    P1 = "P1"
    P2 = "P2"
    P3 = "P3"


class Outcome(StrEnum):
    """How an attempt ended. Inconclusive is never counted as success."""

    SUCCESSFUL = "Successful"
    FAILED = "Failed"
    UNDONE = "Undone"
    INCONCLUSIVE = "Inconclusive"
    DRY_RUN = "DryRun"
    BLOCKED = "Blocked"


class Sli(_Record):
    """One service level indicator at one moment, e.g. canary_success_ratio 0.4."""

    name: str
    value: float
    unit: str


class Evidence(_Record):
    """One measured value against its threshold, e.g. kb_chroma_breaker_state 2, open for 30 s."""

    signal: str
    value: str
    threshold: str
    at: datetime


class Attempt(_Record):
    """One execution of one option. Written with `started` before anything is sent (intent first).

    `acted` is set once the API server has confirmed the action. An attempt without `acted` found after a restart
    of the operator is executed again: actions carry uids, so the repeat is a no-op.
    """

    id: str
    option: str
    action: Action
    inverse: Action | None = None
    claimed_by: str
    started: datetime
    acted: datetime | None = None
    finished: datetime | None = None
    outcome: Outcome | None = None
    message: str = ""
    before: tuple[Sli, ...] = ()
    after: tuple[Sli, ...] = ()


class TimelineEntry(_Record):
    """One line of the incident's story."""

    at: datetime
    reason: str  # CamelCase, also the reason of the event
    message: str


class Escalation(_Record):
    """Why a human is needed, and what they should do first."""

    at: datetime
    reason: str
    message: str
    next_step: str


class IncidentRecord(_Record):
    """One Incident object: identity from its metadata and spec, the rest from its status."""

    name: str
    runbook: str
    number: int
    severity: Severity
    opened_at: datetime
    detected_at: datetime
    evidence: tuple[Evidence, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    timeline: tuple[TimelineEntry, ...] = ()
    healthy_since: datetime | None = None
    resolved_at: datetime | None = None
    escalation: Escalation | None = None
    caused_by: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether somebody still has to do something about it, be it only to wait."""
        return self.resolved_at is None

    @property
    def attempt_in_flight(self) -> Attempt | None:
        """The attempt that has been claimed and has no outcome yet; at most the last one."""
        return self.attempts[-1] if self.attempts and self.attempts[-1].finished is None else None


class Journal(_Record):
    """Attempts of one object in the recent past, over all its incidents, whether or not these still exist.

    People delete incidents; the limit of three restarts an hour must survive that.
    """

    attempts: tuple[Attempt, ...] = Field(default=())
