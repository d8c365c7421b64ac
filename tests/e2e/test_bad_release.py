"""A release whose queries fail is taken back to the revision that served well; errors without a release are not."""

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.faults.release import SOON, Release
from harness.figures import Figures
from harness.kinds import Incident, KnowledgeBeast
from harness.library import Library, MakeLibrary
from harness.load.records import summarize
from harness.wait import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]


@dataclass(frozen=True)
class Scenario:
    library: Library
    healthy: KnowledgeBeast  # before the bad release
    taken_back: Incident
    after: KnowledgeBeast  # with the rollback in force
    mended: KnowledgeBeast  # after its owner has set another pod template
    unexplained: Incident  # errors of a revision that had been healthy


@pytest.fixture(scope="module")
def scenario(make_library: MakeLibrary, rate: float, folder: Path, figures: Figures) -> Generator[Scenario]:
    with (
        make_library("release", {"remediation": {"runbooks": [SOON]}}) as library,
        library.load(folder, rate=rate) as load,
    ):
        releases = Release(library)
        remembered = releases.wait_until_remembered()
        healthy = library.get()
        releases.install()
        releases.switch(fails=True)
        releases.roll_out(1)
        taken_back = wait_for("the rollback", lambda: succeeded(library), timeout=400, explain=library.explain)
        after = library.get()
        releases.switch(fails=False)
        releases.roll_out(2)
        releases.wait_until_remembered(unlike=remembered, timeout=400)
        mended = library.get()
        releases.switch(fails=True)
        unexplained = wait_for("a human to be called", lambda: escalated(library), timeout=200, explain=library.explain)
        releases.switch(fails=False)
        wait_for("the incident to close", lambda: library.incidents()[-1].is_resolved, timeout=200,
                 explain=library.explain)  # fmt: skip
        figures(f"Bad release: {summarize(load.stop()).sentence()}")
        yield Scenario(library, healthy, taken_back, after, mended, unexplained)


def spikes(library: Library) -> list[Incident]:
    return [item for item in library.incidents() if item.spec.runbook == "APIErrorRateSpike"]


def succeeded(library: Library) -> Incident | None:
    return next((item for item in spikes(library) if [a.outcome for a in item.status.attempts] == ["Successful"]), None)


def escalated(library: Library) -> Incident | None:
    return next((item for item in spikes(library)[1:] if item.status.escalation is not None), None)


def test_a_bad_release_is_taken_back(scenario: Scenario) -> None:
    (attempt,) = scenario.taken_back.status.attempts
    assert (attempt.option, attempt.action.type) == ("RollBack", "SetFields")
    assert {item.kind for item in scenario.after.status.overlays} == {"service.image", "service.podTemplate"}
    assert scenario.after.status.last_healthy_revision == scenario.healthy.status.last_healthy_revision


def test_it_ends_when_its_owner_sets_another_release(scenario: Scenario) -> None:
    assert scenario.mended.status.overlays == ()


def test_errors_that_no_release_has_brought_are_for_a_human(scenario: Scenario) -> None:
    escalation = scenario.unexplained.status.escalation
    assert escalation is not None
    assert escalation.reason == "NoOptionApplicable"
    assert "was healthy at" in escalation.next_step
    assert scenario.unexplained.status.attempts == ()


def test_nothing_else_was_taken_for_an_incident_of_answers(scenario: Scenario) -> None:
    assert len(spikes(scenario.library)) == 2
