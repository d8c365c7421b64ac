"""What has been done and what came of it: the status of an Incident, as values.

The Incident objects are the operator's memory. These models are their `status` (and the immutable `spec`) in
camelCase, so that writing one down is `model_dump(by_alias=True)`.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from knowledgebeast_operator.core.actions import Action, PutFields, SetFields


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class Severity(StrEnum):
    """Runbook, "Incident Severity Levels"."""

    P0 = "P0"
    P1 = "P1"
    P2 = "P2"
    P3 = "P3"


class Trigger(StrEnum):
    """What an incident began with."""

    DETECTED = "Detected"
    MANUAL = "Manual"


class Outcome(StrEnum):
    """How an attempt ended. Inconclusive is never counted as success, and Diagnosed never as a remedy."""

    SUCCESSFUL = "Successful"
    DIAGNOSED = "Diagnosed"
    FAILED = "Failed"
    UNDONE = "Undone"
    INCONCLUSIVE = "Inconclusive"
    DRY_RUN = "DryRun"
    BLOCKED = "Blocked"


class TargetVerdict(StrEnum):
    """Whether a restore kept to a target."""

    WITHIN = "Within"
    EXCEEDED = "Exceeded"
    UNKNOWN = "Unknown"  # it was not measured


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


class TaskReport(_Record):
    """What a maintenance task said at its end, or why it said nothing.

    `ok` as the task sees it: a check that found damage is not ok and has a result. `refused`: nothing was changed.
    """

    ok: bool
    has_result: bool = True
    refused: bool = False
    reason: str = ""  # CamelCase; empty when the task gave none
    message: str = ""
    figures: Mapping[str, float] = Field(default_factory=dict)  # numbers that the task measured
    values: Mapping[str, str] = Field(default_factory=dict)  # words that the task measured, such as damage: pages
    notes: tuple[str, ...] = ()  # sentences: problems found, backups passed over


class ApprovalRequest(_Record):
    """What a person is asked to allow, and the hash by which they say that they have seen it."""

    reason: str
    evidence_hash: str
    granted_by: str | None = None  # the IncidentApproval


class Attempt(_Record):
    """One execution of one option. Written with `started` before anything is sent (intent first).

    `begun` is set when an action that takes its time has taken its first step: from then on it is brought to its end
    whatever the signals say. `acted` is set once the API server has confirmed the action. An attempt without `acted`
    found after a restart of the operator is executed again: actions carry uids, so the repeat is a no-op. So it is with
    `undoing` and the inverse.
    """

    id: str
    option: str
    action: Action
    inverse: Annotated[SetFields | PutFields, Field(discriminator="type")] | None = None
    claimed_by: str
    started: datetime
    approval: ApprovalRequest | None = None
    begun: datetime | None = None
    stage: str = ""  # the step that it is at: Fencing, TaskRunning
    acted: datetime | None = None
    undoing: datetime | None = None  # when it was written down that the inverse is carried out
    report: TaskReport | None = None
    finished: datetime | None = None
    outcome: Outcome | None = None
    message: str = ""
    before: tuple[Sli, ...] = ()
    after: tuple[Sli, ...] = ()


class DataLoss(_Record):
    """What a restore could not bring back: bounds that hold the true loss, and what can be ingested again.

    Of a restore that was refused it is what would be lost, and no time was taken.
    """

    documents_lower: int
    documents_upper: int | None = None  # None: nothing says how many there were
    since: datetime | None = None
    until: datetime | None = None
    ingest_again: tuple[str, ...] = ()  # `project/id`, as many as fit
    ingest_again_total: int = 0
    rpo_seconds: float | None = None
    rpo_target_seconds: float | None = None
    rpo_verdict: TargetVerdict | None = None
    rto_seconds: float | None = None
    rto_target_seconds: float | None = None
    rto_verdict: TargetVerdict | None = None
    backup: str = ""


class TimelineEntry(_Record):
    """One line of the incident's story."""

    at: datetime
    reason: str  # CamelCase, also the reason of the event
    message: str


class Level(StrEnum):
    """Who is called, in this order: the runbook's "Escalation Path"."""

    ON_CALL = "OnCall"
    TEAM_LEAD = "TeamLead"
    ENGINEERING_MANAGER = "EngineeringManager"
    CTO = "CTO"

    @property
    def path(self) -> "tuple[Level, ...]":
        """The levels up to this one: a call tells those before it too."""
        levels = tuple(Level)
        return levels[: levels.index(self) + 1]


class Escalation(_Record):
    """Why a human is needed, and what they should do first."""

    level: Level = Level.ON_CALL  # the highest that is called; those before it are told too
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
    escalation: Escalation | None = None  # the first for which there was more of a reason than the time
    escalations: tuple[Escalation, ...] = ()  # the first call of each level
    caused_by: str | None = None
    data_loss: DataLoss | None = None
    trigger: Trigger = Trigger.DETECTED
    option: str | None = None  # of a manual one: what is asked for
    parameters: Mapping[str, str] = Field(default_factory=dict)

    @property
    def is_manual(self) -> bool:
        """Whether a person asked for it."""
        return self.trigger is Trigger.MANUAL

    @property
    def is_open(self) -> bool:
        """Whether somebody still has to do something about it, be it only to wait."""
        return self.resolved_at is None

    @property
    def call(self) -> Escalation | None:
        """Why a person is needed: the reason, or that it lasts; None when nobody has been called."""
        return self.escalation or (self.escalations[-1] if self.escalations else None)

    @property
    def called(self) -> frozenset[Level]:
        """Who has been called. An incident of an earlier version says only that somebody was."""
        first = () if self.escalation is None else (self.escalation,)
        return frozenset(level for one in (*first, *self.escalations) for level in one.level.path)

    @property
    def attempt_in_flight(self) -> Attempt | None:
        """The attempt that has been claimed and has no outcome yet; at most the last one."""
        return self.attempts[-1] if self.attempts and self.attempts[-1].finished is None else None


class Journal(_Record):
    """Attempts of one object in the recent past, over all its incidents, whether or not these still exist.

    People delete incidents; the limit of three restarts an hour must survive that.
    """

    attempts: tuple[Attempt, ...] = Field(default=())
