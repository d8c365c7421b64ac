"""Somebody sets an image of Chroma that no registry has: a restart cannot help, so a human is told what can."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from harness.audit import OPERATOR, AuditLog, now, pod_deletions
from harness.figures import Figures
from harness.kinds import Incident, KnowledgeBeast
from harness.library import Library
from harness.load.records import Summary, summarize
from harness.wait import stays, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

IMAGE = "localhost/no-such-image:none"
WATCHED_SECONDS = 20


@dataclass(frozen=True)
class Scenario:
    library: Library
    began: datetime
    incident: Incident  # as it was while the image was missing
    knowledgebeast: KnowledgeBeast
    summary: Summary


@pytest.fixture(scope="module")
def scenario(library: Library, rate: float, folder: Path, figures: Figures) -> Scenario:
    known = len(library.incidents())
    with library.load(folder, rate=rate) as load:
        began = now()
        with library.chroma.image_unpullable(IMAGE):

            def escalated() -> Incident | None:
                return next((i for i in library.incidents()[known:] if i.status.escalation), None)

            incident = wait_for("a human to be called", escalated, timeout=90, explain=library.explain)
            pod = library.chroma.pod()
            assert pod is not None
            stays("the pod is left alone", lambda: library.chroma.pod_uid() == pod.uid, seconds=WATCHED_SECONDS)
            seen = library.get()
        wait_for("the incident to close", lambda: library.incidents()[known].is_resolved, timeout=120,
                 explain=library.explain)  # fmt: skip
        summary = summarize(load.stop())
    figures(f"Image unpullable: {summary.sentence()}")
    return Scenario(library, began, incident, seen, summary)


def test_no_query_fails(scenario: Scenario) -> None:
    assert scenario.summary.failed == 0, scenario.summary.errors
    assert scenario.summary.degraded > 100


def test_a_human_is_told_what_is_wrong_and_what_helps(scenario: Scenario) -> None:
    escalation = scenario.incident.status.escalation

    assert escalation is not None
    assert IMAGE in escalation.message
    assert IMAGE in escalation.next_step
    assert scenario.incident.status.attempts == ()
    conditions = {item.type: item.status for item in scenario.incident.status.conditions}
    assert (conditions["Active"], conditions["Escalated"]) == ("True", "True")


def test_the_object_says_what_is_needed(scenario: Scenario) -> None:
    found = scenario.knowledgebeast

    assert found.has("Stalled", "True")
    assert found.has("Degraded", "True")
    assert found.has("Ready", "True")
    assert IMAGE in found.status.summary.needed


def test_nothing_is_restarted(scenario: Scenario, audit: AuditLog) -> None:
    calls = audit.calls(since=scenario.began, user=OPERATOR)

    assert pod_deletions(calls, scenario.library.chroma.pod_name) == []
