"""The silence after the end of a scenario: what is looked at, and what ends it."""

import contextlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import cast

import pytest

from harness.alerts import Alerts
from harness.errors import NotMetError
from harness.kinds import Incident
from harness.library import Library
from harness.scenario import End, Scenario
from harness.trial import keep_silent

BEGAN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SHORT = 0.01
LATENCY = "HighQueryLatency"


def incident(number: int = 1, *, is_resolved: bool = True) -> Incident:
    return Incident.model_validate(
        {
            "metadata": {"name": f"demo-{number}", "uid": str(number), "creationTimestamp": BEGAN},
            "spec": {"knowledgeBeastRef": {"name": "demo"}, "runbook": "ChromaUnreachable", "trigger": "Automatic"},
            "status": {"openedAt": BEGAN, **({"resolvedAt": BEGAN} if is_resolved else {})},
        }
    )


@dataclass
class Seen:
    """A library that has other incidents at every look, and its alerts."""

    looks: list[list[Incident]] = field(default_factory=lambda: [[incident()]])
    fires: frozenset[str] = frozenset()
    name: str = "demo"
    namespace: str = "search"

    def incidents(self) -> list[Incident]:
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]

    def firing(self, name: str, namespace: str) -> frozenset[str]:
        return self.fires if (name, namespace) == (self.name, self.namespace) else frozenset()


def silence(seen: Seen, end: End = End.RESOLVED, *, alerts: tuple[str, ...] = ()) -> tuple[float, set[str]]:
    watched = {"runbooks": [{"name": LATENCY, "thresholds": {"minimumQueries": 200}}]}
    scenario = Scenario(
        "a fault", lambda _: contextlib.nullcontext(), end, spec={"remediation": watched}, alerts=alerts
    )
    heard = set[str]()
    return keep_silent(cast("Library", seen), scenario, SHORT, cast("Alerts", seen), heard), heard


def test_it_is_silent_and_the_time_and_allowed_alerts_are_kept() -> None:
    seconds, heard = silence(Seen(fires=frozenset({LATENCY})), alerts=(LATENCY,))
    assert seconds >= SHORT
    assert heard == {LATENCY}


def test_an_alert_that_the_scenario_does_not_name_ends_it() -> None:
    with pytest.raises(NotMetError, match=f"alerts that should not fire: {LATENCY}"):
        silence(Seen(fires=frozenset({LATENCY})))
    with pytest.raises(NotMetError, match=LATENCY):
        silence(Seen(looks=[[]], fires=frozenset({LATENCY})), End.QUIET)


def test_a_second_incident_ends_it() -> None:
    with pytest.raises(NotMetError):
        silence(Seen(looks=[[incident()], [incident(), incident(2)]]))


def test_an_incident_that_opens_again_ends_it_where_it_had_to_be_resolved() -> None:
    with pytest.raises(NotMetError):
        silence(Seen(looks=[[incident()], [incident(is_resolved=False)]]))


def test_after_a_call_nobody_is_silent() -> None:
    assert silence(Seen(fires=frozenset({LATENCY})), End.ESCALATED) == (0.0, set())
