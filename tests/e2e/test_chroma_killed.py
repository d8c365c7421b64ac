"""Chroma dies or its pod is deleted: the cluster brings it back by itself, and the operator keeps its hands off."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from harness.audit import OPERATOR, AuditLog, now, operand_writes
from harness.figures import Figures
from harness.library import Library
from harness.load.records import Record, degraded_span, summarize
from harness.objects import Pod
from harness.wait import stays, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

CLIENT_SEES_SECONDS = 10
WATCHED_SECONDS = 20  # longer than it takes to detect and restart a hung Chroma


@dataclass(frozen=True)
class Scenario:
    library: Library
    records: list[Record]
    began: datetime
    before: Pod
    after: Pod
    new_incidents: int
    attempts: int


def killed(library: Library) -> tuple[Pod, Pod]:
    before = library.chroma.kill()

    def restarted() -> Pod | None:
        pod = library.chroma.pod()
        return pod if pod is not None and pod.is_ready and pod.restarts > before.restarts else None

    return before, wait_for("the kubelet to restart Chroma", restarted, timeout=60, explain=library.explain)


def deleted(library: Library) -> tuple[Pod, Pod]:
    before = library.chroma.delete_pod()
    return before, library.chroma.ready_pod(unlike=before.uid, timeout=60)


@pytest.fixture(scope="module", params=[killed, deleted], ids=["killed", "deleted"])
def scenario(library: Library, rate: float, folder: Path, figures: Figures, request: pytest.FixtureRequest) -> Scenario:
    fault: Callable[[Library], tuple[Pod, Pod]] = request.param
    known = len(library.incidents())
    with library.load(folder, rate=rate) as load:
        began = now()
        injected_at = time.time()
        before, after = fault(library)

        def untouched() -> bool:
            pod = library.chroma.pod()
            return pod is not None and (pod.uid, pod.restarts) == (after.uid, after.restarts)

        stays("the new Chroma is left alone", untouched, seconds=WATCHED_SECONDS)
        library.wait_until_well()
        records = load.stop()
    fresh = library.incidents()[known:]
    span = degraded_span(record for record in records if record.due >= injected_at)
    degraded = span.seconds if span else 0.0
    figures(f"Chroma {fault.__name__}: degraded for {degraded:.1f} s; {summarize(records).sentence()}")
    return Scenario(library, records, began, before, after, len(fresh), sum(len(i.status.attempts) for i in fresh))


def test_no_query_fails(scenario: Scenario) -> None:
    summary = summarize(scenario.records)

    assert summary.failed == 0, summary.errors


def test_it_is_over_in_ten_seconds_as_the_client_sees_it(scenario: Scenario) -> None:
    span = degraded_span(scenario.records)

    assert span is not None
    assert span.seconds < CLIENT_SEES_SECONDS


def test_the_operator_does_not_act_twice(scenario: Scenario) -> None:
    assert scenario.attempts == 0
    assert scenario.after.is_ready


def test_the_operator_writes_to_no_operand(scenario: Scenario, audit: AuditLog) -> None:
    assert [str(call) for call in operand_writes(audit.calls(since=scenario.began, user=OPERATOR))] == []
