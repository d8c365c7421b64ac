"""Chroma's whole volume is deleted under load: its data is derived, so nothing is lost and nothing has a backup."""

import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.corpus import load_corpus
from harness.figures import Figures
from harness.library import Library, MakeLibrary
from harness.load.records import Record, degraded_span, summarize
from harness.objects import Claim, Pod
from harness.wait import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

NAME = "derived"
REFILLED_SECONDS = 180
QUESTION = "light"


@dataclass(frozen=True)
class Scenario:
    records: list[Record]
    injected_at: float
    before: list[str]  # the documents found by vector alone
    after: list[str]
    old_claim: str
    new_claim: str


@pytest.fixture(scope="module")
def scenario(make_library: MakeLibrary, rate: float, folder: Path, figures: Figures) -> Generator[Scenario]:
    with make_library(NAME) as library:
        before, old = found_by_vector(library), claim_uid(library)
        with library.load(folder, rate=rate) as load:
            injected_at = time.time()
            gone = lose_volume(library)
            library.chroma.ready_pod(unlike=gone.uid, timeout=90)
            wait_for(
                "all vectors",
                lambda: found_by_vector(library) == before,
                timeout=REFILLED_SECONDS,
                explain=library.explain,
            )
            library.wait_until_well()
            records = load.stop()
        span = degraded_span(record for record in records if record.due >= injected_at)
        figures(
            f"Chroma's volume deleted: degraded for {span.seconds if span else 0.0:.1f} s; "
            f"{summarize(records).sentence()}"
        )
        yield Scenario(records, injected_at, before, found_by_vector(library), old, claim_uid(library))


def found_by_vector(library: Library) -> list[str]:
    """In Chroma: answers by vector alone cannot come from the keyword index."""
    answer = library.client.search(QUESTION, mode="vector", top_k=len(load_corpus().documents))
    return [] if answer.degraded_mode else answer.documents


def claim_uid(library: Library) -> str:
    found = library.cluster.api.get(Claim, f"{library.name}-chroma", library.namespace)
    return "" if found is None else found.uid


def lose_volume(library: Library) -> Pod:
    """The claim first: Kubernetes keeps it until its pod is gone, and then the volume goes with all that is on it."""
    library.cluster.kubectl.run(
        "delete", "persistentvolumeclaim", f"{library.name}-chroma", f"--namespace={library.namespace}", "--wait=false"
    )
    return library.chroma.delete_pod()


def test_the_volume_is_another_one(scenario: Scenario) -> None:
    assert scenario.new_claim != scenario.old_claim


def test_no_query_fails(scenario: Scenario) -> None:
    summary = summarize(scenario.records)

    assert summary.failed == 0, summary.errors


def test_answers_are_degraded_meanwhile_and_say_so(scenario: Scenario) -> None:
    assert degraded_span(record for record in scenario.records if record.due >= scenario.injected_at) is not None


def test_every_vector_is_back_without_a_backup(scenario: Scenario) -> None:
    assert len(scenario.before) > 10
    assert scenario.after == scenario.before
