"""The active operator is killed after it wrote its intent down and before its action was carried out."""

import time
from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from harness.audit import OPERATOR, AuditLog, now, pod_deletions
from harness.faults.operator_process import Agent
from harness.figures import Figures
from harness.install import Installation
from harness.kinds import Attempt
from harness.library import Library, MakeLibrary
from harness.load.records import summarize
from harness.objects import Pod
from harness.outage import Outage
from harness.wait import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Scenario:
    library: Library
    outage: Outage
    began: datetime
    hung: Pod
    killed_operator: Pod
    intent: Attempt  # as it was when the operator was killed
    new_leader: Pod


@pytest.fixture(scope="module")
def scenario(
    make_library: MakeLibrary, installation: Installation, rate: float, folder: Path, figures: Figures
) -> Generator[Scenario]:
    agent = Agent(installation.cluster, installation.images)
    with make_library("midway") as library, agent.running(), library.load(folder, rate=rate) as load:
        leader = installation.leader()
        assert leader is not None
        began = now()
        with library.chroma.hung() as pod:
            injected_at = time.time()
            with agent.deletion_hangs(pod.name, library.namespace):
                intent = wait_for("the intent", lambda: _intent(library), timeout=60, interval=0.1,
                                  explain=library.explain)  # fmt: skip
                agent.kill(leader)
            healed = library.chroma.ready_pod(unlike=pod.uid, timeout=120)
            wait_for("the incident to close", lambda: library.incidents()[0].is_resolved, timeout=120,
                     explain=library.explain)  # fmt: skip
        new_leader = wait_for("a leader", installation.leader, timeout=60)
        library.wait_until_well()
        outage = Outage(injected_at, library.incidents()[0], load.stop())
        figures(f"Operator killed midway: {outage.sentence()}; {summarize(outage.records).sentence()}")
        assert healed.uid != pod.uid
        yield Scenario(library, outage, began, pod, leader, intent, new_leader)


def _intent(library: Library) -> Attempt | None:
    incidents = library.incidents()
    attempts = incidents[0].status.attempts if incidents else ()
    return attempts[0] if attempts else None


def test_the_intent_was_written_before_the_action(scenario: Scenario) -> None:
    assert scenario.intent.acted is None
    assert scenario.intent.action.target.uid == scenario.hung.uid
    assert scenario.intent.claimed_by.startswith(scenario.killed_operator.name)


def test_the_other_operator_carries_it_out_exactly_once(scenario: Scenario, audit: AuditLog) -> None:
    deletions = pod_deletions(audit.calls(since=scenario.began, user=OPERATOR), scenario.hung.name)

    assert len(deletions) == 1, [str(call) for call in deletions]


def test_it_is_the_same_attempt_that_ends_well(scenario: Scenario) -> None:
    (attempt,) = scenario.outage.incident.status.attempts

    assert attempt.id == scenario.intent.id
    assert attempt.outcome == "Successful"
    assert attempt.acted is not None


def test_the_standby_leads_now(scenario: Scenario) -> None:
    assert scenario.new_leader.name != scenario.killed_operator.name


def test_no_query_fails(scenario: Scenario) -> None:
    summary = summarize(scenario.outage.records)

    assert summary.failed == 0, summary.errors
