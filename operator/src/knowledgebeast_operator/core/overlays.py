"""Settings that incidents changed, beside the user's spec: effective = spec + overlays. Pure.

They live in the ConfigMap `<name>-overlays`, so that they outlive an operator, a deleted Incident and a restored
status. Each names the Incident that made it and says when it ends:

fence           nobody may have the database open: no service pod, no scheduled task. Ends with the attempt that put it.
field of the    another value than the spec's, under the path of the field. Ends when somebody changes that field of the
spec            spec, when the attempt that put it is undone, or when its runbook has no more use for it.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic.alias_generators import to_camel

from knowledgebeast_operator.core.actions import SetFields, Target
from knowledgebeast_operator.core.ledger import Attempt, IncidentRecord
from knowledgebeast_operator.custom_resource import Spec
from knowledgebeast_operator.custom_resource.paths import UnknownPathError, read_path, with_path

FENCE: Final = "fence"

FIELDS: Final = frozenset(
    {
        "cache.queryEntries",
        "cache.embeddingEntries",
        "cache.maxMemoryMB",
        "service.image",
        "service.podTemplate",
        "service.replicas",
        "service.resources.limits.memory",
        "service.config.rateLimitPerMinute",
        "service.config.maxDocumentSizeMB",
        "chroma.resources.limits.memory",
        "chroma.storage.size",
        "database.storage.size",
        "database.backup.storage.size",
        "embedding.model",
        "embedding.device",
        "embedding.backend",
    }
)
"""What a runbook may change. Anything else in the ConfigMap is ignored, whoever wrote it."""

RELEASE: Final = frozenset({"service.image", "service.podTemplate"})
"""What a release is made of. Overlays of one attempt on these end together: else the image of a new release would go
out with the pod template of an old one."""


class _Overlay(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    incident: str
    attempt: str
    at: AwareDatetime


class Fence(_Overlay):
    """Keeps every pod away from the database while a task needs it alone."""

    def is_justified(self, incidents: Iterable[IncidentRecord]) -> bool:
        """Whether the attempt that put it is still at work. Otherwise it is lifted, whoever left it behind."""
        return any(
            record.name == self.incident and record.is_open and attempt.id == self.attempt and attempt.acted is None
            for record in incidents
            if (attempt := record.attempt_in_flight) is not None
        )


class FieldOverlay(_Overlay):
    """Another value for one field of the spec."""

    runbook: str
    value: JsonValue
    instead_of: JsonValue  # what the spec said when it was put


class Overlays(BaseModel):
    """All overlays of one object."""

    model_config = ConfigDict(frozen=True)

    fence: Fence | None = None
    fields: Mapping[str, FieldOverlay] = Field(default_factory=dict[str, FieldOverlay])  # by path

    @classmethod
    def read(cls, data: Mapping[str, str]) -> "Overlays":
        """From the ConfigMap's data. A field that cannot be read is left to the spec."""
        found = {path: overlay for path in FIELDS & data.keys() if (overlay := _read_field(data[path])) is not None}
        return cls(fence=_read_fence(data.get(FENCE)), fields=dict(sorted(found.items())))

    def dump(self) -> dict[str, str | None]:
        """The ConfigMap's data; None for what is not there."""
        parts = {FENCE: self.fence, **dict.fromkeys(sorted(FIELDS)), **self.fields}
        return {
            key: None if part is None else json.dumps(part.model_dump(mode="json", by_alias=True))
            for key, part in parts.items()
        }

    def view(self) -> list[Mapping[str, object]]:
        """For `status.overlays`."""
        fence = [] if self.fence is None else [{"kind": FENCE, **self.fence.model_dump(mode="json", by_alias=True)}]
        fields = [
            {"kind": path, **overlay.model_dump(mode="json", by_alias=True, exclude={"value", "instead_of"})}
            | {"value": json.dumps(overlay.value)[:256], "insteadOf": json.dumps(overlay.instead_of)[:256]}
            for path, overlay in self.fields.items()
        ]
        return [*fence, *fields]

    def in_force(self, spec: Spec) -> "Overlays":
        """Those that still hold: a field that somebody has changed in the spec is the spec's again."""
        kept = {path: overlay for path, overlay in self.fields.items() if read_path(spec, path) == overlay.instead_of}
        torn = {self.fields[path].attempt for path in RELEASE & self.fields.keys() - kept.keys()}
        whole = {path: item for path, item in kept.items() if path not in RELEASE or item.attempt not in torn}
        return self.model_copy(update={"fields": whole})

    def apply_to(self, spec: Spec) -> Spec:
        """The spec with these values. One that the spec cannot have (any more) is left out."""
        for path, overlay in self.fields.items():
            try:
                spec = with_path(spec, path, overlay.value)
            except (UnknownPathError, ValidationError):
                continue
        return spec

    def changed(self, attempt: Attempt, incident: str, runbook: str, action: SetFields, spec: Spec) -> "Overlays":
        """After an attempt at `action`. The spec is the user's: what the values stand instead of.

        Raises:
            UnknownPathError: the spec has no such field, or no runbook may change it.
        """
        unknown = (action.fields.keys() | set(action.dropped)) - FIELDS
        if unknown:
            raise UnknownPathError(f"{', '.join(sorted(unknown))} cannot be changed by an incident")
        put = {
            path: FieldOverlay(
                incident=incident,
                attempt=attempt.id,
                at=attempt.started,
                runbook=runbook,
                value=value,
                instead_of=read_path(spec, path),
            )
            for path, value in action.values.items()
        }
        kept = {path: overlay for path, overlay in self.fields.items() if path not in action.dropped}
        return self.model_copy(update={"fields": dict(sorted((kept | put).items()))})


def put(target: Target, overlays: Overlays, fields: Mapping[str, JsonValue]) -> tuple[SetFields, SetFields]:
    """The action that puts these values in force, and its inverse, which takes back what is in force now."""
    wanted = {path: json.dumps(value) for path, value in fields.items()}
    before = {path: json.dumps(overlays.fields[path].value) for path in fields if path in overlays.fields}
    dropped = tuple(path for path in fields if path not in before)
    return SetFields(target=target, fields=wanted), SetFields(target=target, fields=before, dropped=dropped)


def is_in_force(overlays: Overlays, attempt: Attempt) -> bool:
    """Whether the fields of an attempt have been put, also when the note of it was lost."""
    action = attempt.action
    if not isinstance(action, SetFields) or not action.fields:
        return False
    found = [overlays.fields.get(path) for path in action.fields]
    return all(item is not None and item.attempt == attempt.id for item in found)


def _read_fence(text: str | None) -> Fence | None:
    """One that cannot be read is one of nobody: it holds until it is lifted, which happens at once."""
    if text is None:
        return None
    try:
        return Fence.model_validate_json(text)
    except ValidationError:
        return Fence(incident="", attempt="", at=datetime.fromisoformat("1970-01-01T00:00:00Z"))


def _read_field(text: str) -> FieldOverlay | None:
    try:
        return FieldOverlay.model_validate_json(text)
    except ValidationError:
        return None
