"""What the operator writes into an Incident, and into the journal of an object, has a place in the schemas.

The API server drops fields that a schema does not have, without a word.
"""

from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from pydantic import BaseModel

from knowledgebeast_operator.core.actions import (
    PutFields,
    RestartPod,
    RollingRestart,
    RunFencedTask,
    RunTask,
    SetFields,
    Target,
)
from knowledgebeast_operator.core.healthy_revision import HealthyRevision
from knowledgebeast_operator.core.ledger import (
    ApprovalRequest,
    Attempt,
    DataLoss,
    Escalation,
    Evidence,
    Level,
    Outcome,
    Severity,
    Sli,
    TargetVerdict,
    TaskReport,
    TimelineEntry,
)
from knowledgebeast_operator.core.overlays import Fence, FieldOverlay

CRDS = Path(__file__).parents[2] / "crds"

Json = dict[str, object]


@lru_cache(maxsize=2)
def schema(kind: str) -> Json:
    crd = yaml.safe_load((CRDS / f"{kind}.yaml").read_text())
    return crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def field(kind: str, path: str) -> Json:
    found = cast("dict[str, Any]", schema(kind))
    for step in path.split("."):
        found = found["items"] if step == "[]" else found["properties"][step]
    return found


def names(model: type[BaseModel]) -> set[str]:
    return {info.serialization_alias or info.alias or name for name, info in model.model_fields.items()}


PLACES = [
    (Evidence, "incidents", "status.evidence.[]"),
    (TimelineEntry, "incidents", "status.timeline.[]"),
    (Escalation, "incidents", "status.escalation"),
    (Escalation, "incidents", "status.escalations.[]"),
    (DataLoss, "incidents", "status.dataLoss"),
    (HealthyRevision, "knowledgebeasts", "status.lastHealthyRevision"),
    (Fence, "knowledgebeasts", "status.overlays.[]"),
    (FieldOverlay, "knowledgebeasts", "status.overlays.[]"),
    *(
        (model, kind, f"{attempts}.[]{below}")
        for kind, attempts in (("incidents", "status.attempts"), ("knowledgebeasts", "status.recentAttempts"))
        for model, below in (
            (Attempt, ""),
            (RestartPod, ".action"),
            (RunTask, ".action"),
            (RunFencedTask, ".action"),
            (RollingRestart, ".action"),
            (SetFields, ".action"),
            (PutFields, ".action"),
            (SetFields, ".inverse"),
            (ApprovalRequest, ".approval"),
            (TaskReport, ".report"),
            (PutFields, ".inverse"),
            (Target, ".action.target"),
            (Sli, ".before.[]"),
            (Sli, ".after.[]"),
        )
    ),
]


@pytest.mark.parametrize(("model", "kind", "path"), PLACES)
def test_every_field_has_a_place(model: type[BaseModel], kind: str, path: str) -> None:
    assert names(model) <= set(cast("Json", field(kind, path)["properties"]))


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("spec.severity", Severity),
        ("status.severity", Severity),
        ("status.attempts.[].outcome", Outcome),
        ("status.dataLoss.rpoVerdict", TargetVerdict),
        ("status.dataLoss.rtoVerdict", TargetVerdict),
        ("status.escalation.level", Level),
        ("status.escalations.[].level", Level),
    ],
)
def test_choices_are_the_same(path: str, values: type[StrEnum]) -> None:
    assert field("incidents", path)["enum"] == [str(value) for value in values]
