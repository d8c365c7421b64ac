"""What a maintenance task said: the termination message of its pod, read into the ledger's words. Pure."""

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from knowledgebeast_operator.core.ledger import DataLoss, TaskReport

MAX_FIGURES: Final = 32
MAX_WORD: Final = 256
MAX_NOTES: Final = 10
MAX_LISTED: Final = 50
MAX_MESSAGE: Final = 1024
"""The bounds of the Incident's schema (crds/incidents.yaml)."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Document(_Part):
    project: str
    id: str


class _Skipped(_Part):
    id: str
    reason: str


class _Loss(_Part):
    documents_lower: Annotated[int, Field(ge=0)]
    documents_upper: Annotated[int, Field(ge=0)] | None = None
    since: AwareDatetime | None = Field(default=None, alias="from")
    until: AwareDatetime | None = None
    ingest_again: tuple[_Document, ...] = ()
    ingest_again_total: int = 0
    rpo_seconds: float | None = None
    rto_seconds: float | None = None


class _Measured(_Part):
    problems: tuple[str, ...] = ()
    problems_after: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()  # what is worth reading, and no problem
    skipped: tuple[_Skipped, ...] = ()
    loss: _Loss | None = None


class TaskMessage(_Part):
    """The service's `TaskResult`, as it stands in a termination message."""

    task: str
    attempt: str
    ok: bool
    measured: Mapping[str, object] = Field(default_factory=dict[str, object])
    refused: str | None = None
    reason: str | None = None

    @classmethod
    def read(cls, text: str | None) -> "TaskMessage | None":
        """None when it is not one: the task was killed before it could say anything, or said too much."""
        try:
            return cls.model_validate_json(text or "")
        except ValidationError:
            return None

    def report(self) -> TaskReport:
        """The result in the ledger's words."""
        known = self._known()
        skipped = (f"{item.id}: {item.reason}" for item in known.skipped)
        notes = [*known.problems, *known.problems_after, *known.findings, *skipped]
        values = {key: value for key, value in self.measured.items() if isinstance(value, str)}
        figures = {
            key: float(value)
            for key, value in self.measured.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        return TaskReport(
            ok=self.ok,
            refused=self.refused is not None,
            reason=self.reason or "",
            message=self._sentence(known)[:MAX_MESSAGE],
            figures=dict(list(figures.items())[:MAX_FIGURES]),
            values={key: value[:MAX_WORD] for key, value in list(values.items())[:MAX_FIGURES]},
            notes=tuple(note[:MAX_WORD] for note in notes[:MAX_NOTES]),
        )

    def loss(self) -> DataLoss | None:
        """What a restore says that it could not bring back."""
        loss = self._known().loss
        if loss is None:
            return None
        return DataLoss(
            documents_lower=loss.documents_lower,
            documents_upper=loss.documents_upper,
            since=loss.since,
            until=loss.until,
            ingest_again=tuple(f"{item.project}/{item.id}"[:MAX_WORD] for item in loss.ingest_again[:MAX_LISTED]),
            ingest_again_total=loss.ingest_again_total,
            rpo_seconds=loss.rpo_seconds,
            rto_seconds=loss.rto_seconds,
            backup=str(self.measured.get("backup_id") or "")[:MAX_WORD],
        )

    def _known(self) -> _Measured:
        """The parts with a meaning; one that cannot be read costs those, never the whole result."""
        try:
            return _Measured.model_validate(self.measured)
        except ValidationError:
            return _Measured()

    def _sentence(self, known: _Measured) -> str:
        if self.refused is not None:
            return f"`{self.task}` refused: {self.refused}"
        problems = "; ".join((*known.problems, *known.problems_after))
        if not self.ok:
            return f"`{self.task}` found: {problems}" if problems else f"`{self.task}` did not succeed."
        backup = self.measured.get("backup_id")
        took = self.measured.get("seconds")
        from_backup = f" from backup {backup}" if backup and known.loss is not None else ""
        lost = f", {_span(known.loss)} documents lost" if known.loss else ""
        return f"`{self.task}` succeeded{from_backup}" + (f" in {took} s" if took is not None else "") + f"{lost}."


def _span(loss: _Loss) -> str:
    if loss.documents_upper is None:
        return f"at least {loss.documents_lower}"
    return f"{loss.documents_lower} to {loss.documents_upper}"


def never_spoke(reason: str, message: str, *, changed_nothing: bool) -> TaskReport:
    """The report of a task that left none; what it may have changed is not known, unless it never started."""
    return TaskReport(ok=False, has_result=False, refused=changed_nothing, reason=reason, message=message[:MAX_MESSAGE])
