"""Prometheus is away, or a metric has another name, while Chroma hangs: unknown is not broken, so nothing is done."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from harness.audit import OPERATOR, AuditLog, now, operand_writes
from harness.faults.prometheus import Monitoring
from harness.figures import Figures
from harness.library import Library
from harness.load.records import Summary, summarize
from harness.objects import Condition
from harness.wait import stays

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

METRIC = "kb_canary_success_ratio"
WATCHED_SECONDS = 30  # a hung Chroma is restarted sooner than that when the signals are there


@dataclass(frozen=True)
class Scenario:
    library: Library
    began: datetime
    signals: Condition
    new_incidents: int
    summary: Summary


def prometheus_stopped(monitoring: Monitoring) -> AbstractContextManager[None]:
    return monitoring.stopped()


def metric_renamed(monitoring: Monitoring) -> AbstractContextManager[None]:
    return monitoring.metric_renamed(METRIC, "kb_canary_share_found")


Fault = Callable[[Monitoring], AbstractContextManager[None]]


@pytest.fixture(scope="module", params=[prometheus_stopped, metric_renamed])
def scenario(library: Library, rate: float, folder: Path, figures: Figures, request: pytest.FixtureRequest) -> Scenario:
    monitoring = Monitoring(library.cluster)
    if not library.cluster.capabilities.has_own_prometheus:
        pytest.skip("this cluster has no Prometheus of ours that could be stopped")
    fault: Fault = request.param
    known = len(library.incidents())
    with library.load(folder, rate=rate) as load:
        with fault(monitoring):
            library.wait_for_condition("SignalsAvailable", "False", timeout=60)
            began = now()
            with library.chroma.hung() as pod:
                stays("the hung Chroma is left alone", lambda: library.chroma.pod_uid() == pod.uid,
                      seconds=WATCHED_SECONDS)  # fmt: skip
                seen = library.get()
            new_incidents = len(library.incidents()) - known
            calls_until = seen.condition("SignalsAvailable")
            assert calls_until is not None
        library.wait_until_well()
        summary = summarize(load.stop())
    figures(f"{request.param.__name__}: {summary.sentence()}")
    return Scenario(library, began, calls_until, new_incidents, summary)


def test_the_condition_names_the_query(scenario: Scenario) -> None:
    assert scenario.signals.status == "False"
    assert METRIC in scenario.signals.message or "kb_chroma_breaker_state" in scenario.signals.message


def test_nothing_is_done(scenario: Scenario, audit: AuditLog) -> None:
    calls = audit.calls(since=scenario.began, user=OPERATOR)

    assert [str(call) for call in operand_writes(calls)] == []
    assert scenario.new_incidents == 0


def test_queries_do_not_notice(scenario: Scenario) -> None:
    assert scenario.summary.failed == 0, scenario.summary.errors
    assert scenario.summary.degraded > 0
