"""Chroma dies again as soon as it is back, and the kubelet makes it wait before it starts it once more.

That is long enough for an incident. The operator records it, and leaves the cure to the kubelet, which is at it.
"""

import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from harness.audit import OPERATOR, AuditLog, now, operand_writes
from harness.figures import Figures
from harness.kinds import Incident
from harness.library import Library
from harness.load.records import Summary, summarize
from harness.objects import Pod
from harness.outage import Outage
from harness.wait import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Scenario:
    began: datetime
    incidents: list[Incident]
    before: Pod
    after: Pod
    summary: Summary


@pytest.fixture(scope="module")
def scenario(library: Library, rate: float, folder: Path, figures: Figures) -> Scenario:
    known = len(library.incidents())
    # A new pod, so that the kubelet's patience does not depend on the scenarios before this one.
    before = library.chroma.ready_pod(unlike=library.chroma.delete_pod().uid)
    library.wait_until_well()
    with library.load(folder, rate=rate) as load:
        began, injected_at = now(), time.time()
        library.chroma.kill()
        _restarted(library, 1)
        library.chroma.kill()
        after = _restarted(library, 2)
        library.wait_until_well()
        records = load.stop()
    incidents = library.incidents()[known:]
    for incident in incidents:
        figures(f"Chroma killed again: {Outage(injected_at, incident, records).sentence()}")
    return Scenario(began, incidents, before, after, summarize(records))


def _restarted(library: Library, times: int) -> Pod:
    def probe() -> Pod | None:
        pod = library.chroma.pod()
        return pod if pod is not None and pod.is_ready and pod.restarts >= times else None

    return wait_for(f"restart {times} by the kubelet", probe, timeout=90, explain=library.explain)


def test_no_query_fails(scenario: Scenario) -> None:
    assert scenario.summary.failed == 0, scenario.summary.errors
    assert scenario.summary.degraded > 0


def test_the_incident_is_recorded_and_closed(scenario: Scenario) -> None:
    (incident,) = scenario.incidents

    assert incident.spec.runbook == "ChromaUnreachable"
    assert incident.status.evidence
    assert incident.is_resolved


def test_the_operator_does_not_act_as_well(scenario: Scenario, audit: AuditLog) -> None:
    (incident,) = scenario.incidents

    assert incident.status.attempts == ()
    assert scenario.after.uid == scenario.before.uid
    assert [str(call) for call in operand_writes(audit.calls(since=scenario.began, user=OPERATOR))] == []
