"""A fault that no restart cures: three restarts in an hour, then a human, and nothing more."""

from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from harness.audit import OPERATOR, AuditLog, now, pod_deletions
from harness.figures import Figures
from harness.kinds import Incident
from harness.library import Library, MakeLibrary
from harness.load.records import Summary, summarize
from harness.wait import stays, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

MAX_RESTARTS = 3
# More attempts than restarts in an hour, so that it is the limit of restarts that ends it.
RUNBOOK = {
    "name": "ChromaUnreachable", "maxAttempts": 6, "window": "20s", "for": "8s", "settle": "5s", "cooldown": "5s",
    "healthyPeriod": "10s", "verifyTimeout": "15s",
}  # fmt: skip


@dataclass(frozen=True)
class Scenario:
    library: Library
    began: datetime
    escalated: Incident
    closed: Incident
    summary: Summary


@pytest.fixture(scope="module")
def scenario(make_library: MakeLibrary, rate: float, folder: Path, figures: Figures) -> Generator[Scenario]:
    spec = {"remediation": {"runbooks": [RUNBOOK]}}
    with make_library("loop", spec) as library, library.load(folder, rate=rate) as load:
        began = now()
        with library.chroma.table_missing():

            def used_up() -> Incident | None:
                """A human may be called before that, when the index is in doubt; restarts that are left go on."""
                found = next((item for item in library.incidents() if item.status.escalation), None)
                done = [] if found is None else [a for a in found.status.attempts if a.outcome == "Failed"]
                return found if len(done) >= MAX_RESTARTS else None

            escalated = wait_for("the restarts to be used up", used_up, timeout=300, explain=library.explain)
            pod = library.chroma.ready_pod()
            stays("Chroma is left alone from then on", lambda: library.chroma.pod_uid() == pod.uid, seconds=30)
        wait_for("the incident to close", lambda: library.incidents()[0].is_resolved, timeout=120,
                 explain=library.explain)  # fmt: skip
        library.wait_until_well()
        summary = summarize(load.stop())
        figures(f"Restart limit: {summary.sentence()}")
        yield Scenario(library, began, escalated, library.incidents()[0], summary)


def test_no_query_fails(scenario: Scenario) -> None:
    assert scenario.summary.failed == 0, scenario.summary.errors


def test_three_restarts_are_the_limit(scenario: Scenario) -> None:
    attempts = scenario.escalated.status.attempts

    assert [attempt.outcome for attempt in attempts] == ["Failed"] * MAX_RESTARTS
    assert len({attempt.action.target.uid for attempt in attempts}) == MAX_RESTARTS


def test_the_human_is_told_why_and_what_to_do(scenario: Scenario) -> None:
    """First that restarts do not help, then, where the timeline ends, that there will be no more of them."""
    escalation = scenario.closed.status.escalation
    (limit,) = [entry for entry in scenario.closed.status.timeline if entry.reason == "RestartLoop"]

    assert escalation is not None
    assert escalation.reason == "IntegrityInDoubt"
    assert "rebuild" in escalation.next_step
    assert f"{scenario.library.chroma.pod_name} was restarted 3 times within 1h" in limit.message


def test_it_closes_by_itself_once_somebody_mended_chroma(scenario: Scenario) -> None:
    assert scenario.closed.is_resolved
    assert len(scenario.closed.status.attempts) == MAX_RESTARTS


def test_the_audit_log_counts_the_same(scenario: Scenario, audit: AuditLog) -> None:
    calls = audit.calls(since=scenario.began, user=OPERATOR)

    assert len(pod_deletions(calls, scenario.library.chroma.pod_name)) == MAX_RESTARTS
