"""Minutes of load without a fault (E2E_CONTROL_SECONDS): no incident, no action, no write to anything but the Lease."""

import os
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from harness.audit import OPERATOR, AuditLog, now, operand_writes
from harness.corpus import load_corpus
from harness.figures import Figures
from harness.library import Library
from harness.load.records import Summary, summarize
from harness.wait import stays

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

SECONDS = float(os.environ.get("E2E_CONTROL_SECONDS", "120"))
P99_MILLISECONDS = 1000  # on two cores that do everything else too; a benchmark says what it is on a quiet machine


@dataclass(frozen=True)
class Scenario:
    library: Library
    summary: Summary
    began: datetime


@pytest.fixture(scope="module")
def scenario(library: Library, rate: float, folder: Path, figures: Figures) -> Scenario:
    before = library.chroma.ready_pod()
    began = now()

    def is_quiet() -> bool:
        pod = library.chroma.pod()
        found = library.get()
        return (
            pod is not None
            and (pod.uid, pod.restarts) == (before.uid, before.restarts)
            and not library.incidents()
            and found.has("ChromaUnreachable", "False")
        )

    with library.load(folder, rate=rate, seconds=SECONDS + 60) as load:
        stays("nothing happens", is_quiet, seconds=SECONDS, interval=2)
        summary = summarize(load.stop())
    figures(f"control run, {SECONDS:.0f} s: {summary.sentence()}")
    return Scenario(library, summary, began)


def test_every_query_is_answered_in_full(scenario: Scenario, rate: float) -> None:
    summary = scenario.summary

    assert (summary.failed, summary.degraded) == (0, 0), summary.errors
    assert summary.n > 0.95 * rate * SECONDS
    assert summary.p99_milliseconds < P99_MILLISECONDS


def test_the_operator_does_nothing(scenario: Scenario, audit: AuditLog) -> None:
    calls = audit.calls(since=scenario.began, user=OPERATOR)
    writes = Counter(f"{call.verb} {call.resource}" for call in calls if call.is_write)

    assert [str(call) for call in operand_writes(calls)] == []
    assert writes.pop("update leases") > 0, "the audit log does not show the operator at all"
    assert writes == {}, "nothing changes, so nothing is written"


def test_no_event_complains(scenario: Scenario) -> None:
    library = scenario.library
    warnings = [event for event in library.events(library.name) if event.type == "Warning"]

    assert [str(event) for event in warnings if event.metadata.creation_timestamp >= scenario.began] == []


@pytest.mark.parametrize("mode", ["hybrid", "keyword", "vector"])
def test_questions_find_their_documents(scenario: Scenario, mode: str) -> None:
    questions = load_corpus().questions
    client = scenario.library.client
    found = [question.document in client.search(question.text, mode=mode, top_k=3).documents for question in questions]

    assert sum(found) / len(found) >= 0.75
