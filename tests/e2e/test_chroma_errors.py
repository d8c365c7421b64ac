"""Chroma answers every read with an error while its heartbeat says 200: no probe of the kubelet can see that."""

import time
from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from harness.audit import OPERATOR, AuditLog, now, pod_deletions
from harness.figures import Figures
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
    broken: Pod
    was_ready: bool  # what the kubelet thought of it when it was restarted
    healed: Pod


@pytest.fixture(scope="module")
def scenario(make_library: MakeLibrary, rate: float, folder: Path, figures: Figures) -> Generator[Scenario]:
    with make_library("errors") as library, library.load(folder, rate=rate) as load:
        began = now()
        with library.chroma.file_replaced() as broken:
            injected_at = time.time()
            wait_for("an incident", library.incidents, timeout=60, explain=library.explain)
            seen = library.chroma.pod()
            healed = library.chroma.ready_pod(unlike=broken.uid, timeout=120)
            wait_for("the incident to close", lambda: library.incidents()[0].is_resolved, timeout=120,
                     explain=library.explain)  # fmt: skip
        library.wait_until_well()
        outage = Outage(injected_at, library.incidents()[0], load.stop())
        figures(f"Chroma answers errors: {outage.sentence()}; {summarize(outage.records).sentence()}")
        yield Scenario(library, outage, began, broken, seen is not None and seen.is_ready, healed)


def test_the_kubelet_saw_nothing(scenario: Scenario) -> None:
    assert scenario.was_ready
    assert scenario.healed.restarts == 0


def test_no_query_fails(scenario: Scenario) -> None:
    summary = summarize(scenario.outage.records)

    assert summary.failed == 0, summary.errors
    assert scenario.outage.during.degraded > 50


def test_a_restart_heals_it_and_the_incident_says_so(scenario: Scenario) -> None:
    (attempt,) = scenario.outage.incident.status.attempts

    assert (attempt.option, attempt.outcome) == ("RestartChroma", "Successful")
    assert attempt.action.target.uid == scenario.broken.uid
    assert scenario.healed.uid != scenario.broken.uid
    assert scenario.outage.restarted_after is not None
    assert scenario.outage.restarted_after < 60


def test_every_document_is_found_again(scenario: Scenario) -> None:
    """The file that the restarted server opened is the whole one."""
    answer = scenario.library.client.search("Which animal has three hearts?", mode="vector")

    assert not answer.degraded_mode
    assert answer.documents[0] == "octopus"


def test_the_pod_was_deleted_once(scenario: Scenario, audit: AuditLog) -> None:
    calls = audit.calls(since=scenario.began, user=OPERATOR)

    assert len(pod_deletions(calls, scenario.broken.name)) == 1
