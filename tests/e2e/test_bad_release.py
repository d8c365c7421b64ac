"""A release whose queries fail is taken back to the revision that served well; errors without a release are not."""

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.figures import Figures
from harness.kinds import Incident, KnowledgeBeast
from harness.library import Library, MakeLibrary
from harness.load.records import summarize
from harness.wait import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]

LIMITS = {
    "name": "APIErrorRateSpike",
    "window": "30s",
    "for": "6s",
    "settle": "5s",
    "cooldown": "10s",
    "healthyPeriod": "10s",
    "verifyTimeout": "4m",
    "thresholds": {"onsetMinutes": 1},
}

FOLDER = "/data/release"
FLAG = f"{FOLDER}/fails"

_INSTALL = f"""
import pathlib
folder = pathlib.Path("{FOLDER}")
folder.mkdir(exist_ok=True)
(folder / "sitecustomize.py").write_text('''
import os, sys
if "serve" in sys.orig_argv:
    from knowledgebeast_service.api import query_routes
    answer = query_routes._answer
    async def fails(*arguments):
        if os.path.exists("{FLAG}"):
            raise RuntimeError("a bad release")
        return await answer(*arguments)
    query_routes._answer = fails
''')
"""
"""What Python imports first where PYTHONPATH names the folder: the code of a release, with a switch."""


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
        make_library("release", {"remediation": {"runbooks": [LIMITS]}}) as library,
        library.load(folder, rate=rate) as load,
    ):
        healthy = wait_for("a healthy revision", lambda: remembered(library), timeout=180, explain=library.explain)
        in_a_pod(library, _INSTALL)
        own = in_a_pod(library, "import os; print(os.environ.get('PYTHONPATH', ''))").strip()
        path = ":".join(filter(None, (FOLDER, own)))
        switch(library, fails=True)
        release(library, PYTHONPATH=path)
        taken_back = wait_for("the rollback", lambda: succeeded(library), timeout=400, explain=library.explain)
        after = library.get()
        switch(library, fails=False)
        release(library, PYTHONPATH=path, MENDED="1")
        mended = wait_for(
            "the mended release", lambda: remembered(library, unlike=healthy), timeout=400, explain=library.explain
        )
        switch(library, fails=True)
        unexplained = wait_for("a human to be called", lambda: escalated(library), timeout=200, explain=library.explain)
        switch(library, fails=False)
        wait_for("the incident to close", lambda: library.incidents()[-1].is_resolved, timeout=200,
                 explain=library.explain)  # fmt: skip
        figures(f"Bad release: {summarize(load.stop()).sentence()}")
        yield Scenario(library, healthy, taken_back, after, mended, unexplained)


def in_a_pod(library: Library, code: str) -> str:
    """What the code prints."""
    pod = next(pod for pod in library.service_pods() if pod.is_ready)
    return library.cluster.kubectl.python(pod.name, library.namespace, code, container="service")


def switch(library: Library, *, fails: bool) -> None:
    change = "touch()" if fails else "unlink(missing_ok=True)"
    in_a_pod(library, f"import pathlib; pathlib.Path({FLAG!r}).{change}")


def release(library: Library, **variables: str) -> None:
    """As its owner would: the pods of the service are replaced."""
    env = [{"name": name, "value": value} for name, value in variables.items()]
    library.patch({"spec": {"service": {"podTemplate": {"env": env}}}})


def remembered(library: Library, *, unlike: KnowledgeBeast | None = None) -> KnowledgeBeast | None:
    found = library.get()
    revision = found.status.last_healthy_revision
    before = unlike.status.last_healthy_revision if unlike is not None else None
    return found if revision is not None and revision != before else None


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
