"""The embedding model fails on one pod after another: a rollout that would lose it stops, and the cause is cured."""

import json
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from harness.figures import Figures
from harness.kinds import Incident
from harness.library import Library, MakeLibrary
from harness.load.records import Record, summarize
from harness.objects import Pod
from harness.wait import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

RUNBOOK = "EmbeddingModelFailure"
CLOSED_WITHIN = 300
SPEC = {
    "service": {"replicas": 2},
    "remediation": {
        "runbooks": [
            {"name": RUNBOOK, "window": "20s", "for": "8s", "settle": "5s", "cooldown": "10s", "healthyPeriod": "15s",
             "verifyTimeout": "4m"},
        ]
    },
}  # fmt: skip

REMOVE_A_FILE = """
import pathlib
[graph] = pathlib.Path("/data/models").glob("*/model.onnx")
graph.unlink()
"""


@dataclass(frozen=True)
class Scenario:
    library: Library
    incident: Incident
    ready_when_opened: set[str]
    ready_before: set[str]
    records: list[Record]


def incidents(library: Library) -> list[Incident]:
    return [item for item in library.incidents() if item.spec.runbook == RUNBOOK]


def ready(library: Library) -> set[str]:
    return {pod.name for pod in library.service_pods() if pod.is_ready}


def nth_incident(library: Library, number: int) -> tuple[Incident, set[str]]:
    """The incident when it is closed, and the pods that were ready when it was opened."""
    wait_for("the incident to open", lambda: len(incidents(library)) == number, timeout=120, explain=library.explain)
    at_work = ready(library)

    def closed() -> Incident | None:
        last = incidents(library)[-1]
        return last if last.is_resolved else None

    return wait_for("the incident to close", closed, timeout=CLOSED_WITHIN, explain=library.explain), at_work


@pytest.fixture(scope="module")
def library_with_model(make_library: MakeLibrary) -> Generator[Library]:
    with make_library("model", SPEC) as library:
        yield library


@pytest.fixture(scope="module")
def without_gpu(library_with_model: Library, rate: float, folder: Path, figures: Figures) -> Scenario:
    """Somebody asks for a GPU on a machine that has none."""
    library = library_with_model
    before = ready(library)
    with library.load(folder, rate=rate) as load:
        library.patch({"spec": {"embedding": {"device": "cuda"}}})
        incident, at_work = nth_incident(library, 1)
        records = load.stop()
    figures(f"A GPU that is not there: {_sentence(incident)}; {summarize(records).sentence()}")
    return Scenario(library, incident, at_work, before, records)


@pytest.fixture(scope="module")
def without_a_file(library_with_model: Library, without_gpu: Scenario, figures: Figures) -> Scenario:
    """A file of the model is lost, and a pod starts anew."""
    library = library_with_model
    before = ready(library)
    kubectl, first = library.cluster.kubectl, min(before)
    kubectl.python(first, library.namespace, REMOVE_A_FILE)
    kubectl.delete("pod", first, library.namespace)
    incident, at_work = nth_incident(library, 2)
    figures(f"A model file is lost: {_sentence(incident)}")
    return Scenario(library, incident, at_work, before - {first}, [])


def test_a_rollout_that_would_lose_the_model_stops_at_its_first_pod(without_gpu: Scenario) -> None:
    assert without_gpu.ready_before <= without_gpu.ready_when_opened


def test_no_query_fails_meanwhile(without_gpu: Scenario) -> None:
    summary = summarize(without_gpu.records)
    assert summary.failed == 0, summary.errors


def test_the_cpu_stands_in_by_an_overlay_and_the_spec_is_left_alone(without_gpu: Scenario) -> None:
    library = without_gpu.library
    assert options(without_gpu.incident) == [("UseCpu", "Successful")]
    assert {overlay.kind for overlay in library.get().status.overlays} == {"embedding.device"}
    assert spec_of(library) == "cuda"
    assert model_of(library)["device"] == "cpu"


def test_a_lost_file_is_filled_again_on_the_volume(without_a_file: Scenario) -> None:
    assert options(without_a_file.incident) == [("RestoreModel", "Successful")]
    [attempt] = without_a_file.incident.status.attempts
    assert attempt.report is not None
    assert attempt.report.ok
    assert model_of(without_a_file.library)["status"] == "up"


def test_the_other_pods_go_on_with_the_model_that_they_have_loaded(without_a_file: Scenario) -> None:
    assert without_a_file.ready_when_opened == without_a_file.ready_before


def options(incident: Incident) -> list[tuple[str, str | None]]:
    return [(attempt.option, attempt.outcome) for attempt in incident.status.attempts]


def spec_of(library: Library) -> str:
    path = "jsonpath={.spec.embedding.device}"
    return library.cluster.kubectl.run(
        "get", "knowledgebeast", library.name, f"--namespace={library.namespace}", f"--output={path}"
    )


def model_of(library: Library) -> dict[str, str]:
    """What every pod says about its model; the same, or the test fails."""
    pods: list[Pod] = [pod for pod in library.service_pods() if pod.is_ready]
    assert len(pods) == 2
    answers = [library.client.request("GET", "/health").raise_for_status().content for _ in range(6)]
    found = {json.dumps(json.loads(answer)["components"]["embedding_model"], sort_keys=True) for answer in answers}
    [one] = found
    return cast("dict[str, str]", json.loads(one))


def _sentence(incident: Incident) -> str:
    status = incident.status
    assert status.detected_at
    assert status.opened_at
    assert status.resolved_at
    [attempt] = status.attempts
    assert attempt.acted
    assert attempt.finished
    moments = (status.opened_at, attempt.acted, attempt.finished)
    opened, acted, cured = (f"{(moment - status.detected_at).total_seconds():.0f} s" for moment in moments)
    return f"opened after {opened}, acted after {acted}, cured after {cured}"
