"""The project's own kinds as a user sees them: fields of the CRDs, read without the operator's code.

A second reading of the wire format on purpose: a test that used the operator's own models would not notice a field
that the operator writes and the CRD drops.
"""

from datetime import datetime
from typing import ClassVar

from pydantic import Field

from harness.objects import Condition, Part, Resource

_PREFIX = "/apis/knowledgebeast.io/v1alpha1"


class Summary(Part):
    problem: str = ""
    done: str = ""
    next: str = ""
    needed: str = ""

    def __str__(self) -> str:
        return f"problem: {self.problem} / done: {self.done} / next: {self.next} / needed: {self.needed}"


class OpenIncident(Part):
    name: str
    runbook: str


class Overlay(Part):
    kind: str
    incident: str = ""
    attempt: str = ""


class HealthyRevision(Part):
    revision: str
    image: str


class KnowledgeBeastStatus(Part):
    observed_generation: int = 0
    conditions: tuple[Condition, ...] = ()
    summary: Summary = Summary()
    open_incident_count: int = 0
    open_incidents: tuple[OpenIncident, ...] = ()
    overlays: tuple[Overlay, ...] = ()
    last_healthy_revision: HealthyRevision | None = None


class KnowledgeBeast(Resource):
    prefix: ClassVar[str] = _PREFIX
    plural: ClassVar[str] = "knowledgebeasts"
    status: KnowledgeBeastStatus = KnowledgeBeastStatus()

    def condition(self, kind: str) -> Condition | None:
        return next((item for item in self.status.conditions if item.type == kind), None)

    def has(self, kind: str, status: str) -> bool:
        """Whether a condition has that status and speaks of the present spec."""
        found = self.condition(kind)
        return found is not None and found.status == status and self.is_observed

    @property
    def is_observed(self) -> bool:
        return self.status.observed_generation >= self.metadata.generation


class ObjectRef(Part):
    name: str
    uid: str | None = None


class IncidentSpec(Part):
    knowledge_beast_ref: ObjectRef
    runbook: str
    severity: str | None = None
    number: int | None = None
    trigger: str


class Evidence(Part):
    signal: str
    value: str
    threshold: str = ""
    at: datetime | None = None


class ActionTarget(Part):
    kind: str = ""
    name: str = ""
    uid: str = ""


class Action(Part):
    type: str
    target: ActionTarget = ActionTarget()
    pods: tuple[ActionTarget, ...] = ()


class Approval(Part):
    reason: str
    evidence_hash: str
    granted_by: str | None = None


class Report(Part):
    ok: bool
    reason: str = ""
    message: str = ""
    figures: dict[str, float] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Attempt(Part):
    id: str
    option: str
    action: Action
    claimed_by: str = ""
    approval: Approval | None = None
    started: datetime | None = None
    begun: datetime | None = None
    report: Report | None = None
    acted: datetime | None = None
    undoing: datetime | None = None
    finished: datetime | None = None
    outcome: str | None = None
    message: str = ""


class TimelineEntry(Part):
    at: datetime
    reason: str
    message: str


class Escalation(Part):
    at: datetime | None = None
    reason: str = ""
    message: str = ""
    next_step: str = ""


class DataLoss(Part):
    documents_lower: int
    documents_upper: int | None = None
    ingest_again: tuple[str, ...] = ()
    rpo_seconds: float | None = None
    rpo_verdict: str | None = None
    rto_seconds: float | None = None
    rto_verdict: str | None = None


class IncidentStatus(Part):
    conditions: tuple[Condition, ...] = ()
    detected_at: datetime | None = None
    opened_at: datetime | None = None
    resolved_at: datetime | None = None
    evidence: tuple[Evidence, ...] = ()
    caused_by: str | None = None
    attempts: tuple[Attempt, ...] = ()
    timeline: tuple[TimelineEntry, ...] = ()
    escalation: Escalation | None = None
    data_loss: DataLoss | None = None


class Incident(Resource):
    prefix: ClassVar[str] = _PREFIX
    plural: ClassVar[str] = "incidents"
    spec: IncidentSpec
    status: IncidentStatus = IncidentStatus()

    @property
    def is_resolved(self) -> bool:
        return self.status.resolved_at is not None

    def story(self) -> str:
        """The timeline as text, for messages."""
        lines = [f"  {entry.at:%H:%M:%S} {entry.reason}: {entry.message}" for entry in self.status.timeline]
        return "\n".join([f"{self.name} (resolved: {self.is_resolved})", *lines])
