"""Chroma hangs: its port accepts, nothing answers, and the kubelet's backstop would need three minutes."""

import time
from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from harness.audit import OPERATOR, AuditLog, now, pod_deletions
from harness.figures import Figures
from harness.install import Installation
from harness.library import Library, MakeLibrary
from harness.load.records import Span, summarize, within
from harness.objects import Pod
from harness.outage import Outage
from harness.wait import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

RESTART_WITHIN_SECONDS = 30
TIME_TO_NOTICE_SECONDS = 2  # one call's deadline, and the request that was already on its way


@dataclass(frozen=True)
class Scenario:
    library: Library
    outage: Outage
    began: datetime
    hung: Pod
    healed: Pod


@pytest.fixture(scope="module")
def scenario(make_library: MakeLibrary, rate: float, folder: Path, figures: Figures) -> Generator[Scenario]:
    with make_library("hung") as library, library.load(folder, rate=rate) as load:
        began = now()
        with library.chroma.hung() as pod:
            injected_at = time.time()
            healed = library.chroma.ready_pod(unlike=pod.uid, timeout=120)
            wait_for("the incident to close", lambda: library.incidents()[0].is_resolved, timeout=120,
                     explain=library.explain)  # fmt: skip
        library.wait_until_well()
        outage = Outage(injected_at, library.incidents()[0], load.stop())
        figures(f"Chroma hung: {outage.sentence()}; {summarize(outage.records).sentence()}")
        yield Scenario(library, outage, began, pod, healed)


def test_no_query_fails(scenario: Scenario) -> None:
    summary = summarize(scenario.outage.records)

    assert summary.failed == 0, summary.errors
    assert scenario.outage.during.n > 100


def test_answers_are_degraded_until_chroma_is_back(scenario: Scenario) -> None:
    outage = scenario.outage
    assert outage.restarted_after is not None
    begin = outage.injected_at + TIME_TO_NOTICE_SECONDS
    while_hung = within(outage.records, Span(begin, outage.injected_at + outage.restarted_after))

    assert len(while_hung) > 50
    assert [item for item in while_hung if not (item.is_degraded or item.cached)] == []


def test_answers_are_whole_before_and_after(scenario: Scenario) -> None:
    outage = scenario.outage
    assert outage.recovered_after is not None
    assert outage.closed_after is not None
    before = [item for item in outage.records if item.answered_at < outage.injected_at]
    after = within(outage.records, Span(outage.injected_at + outage.recovered_after, float("inf")))

    assert before
    assert after
    assert not any(item.is_degraded for item in [*before, *after])
    assert outage.recovered_after < outage.closed_after


def test_it_is_restarted_within_30_seconds(scenario: Scenario) -> None:
    assert scenario.outage.restarted_after is not None
    assert scenario.outage.restarted_after < RESTART_WITHIN_SECONDS
    assert scenario.healed.uid != scenario.hung.uid


def test_the_incident_tells_the_story(scenario: Scenario) -> None:
    incident = scenario.outage.incident
    (attempt,) = incident.status.attempts

    assert (incident.spec.runbook, incident.spec.severity, incident.spec.trigger) == (
        "ChromaUnreachable", "P0", "Detected",
    )  # fmt: skip
    assert incident.name == "hung-chroma-unreachable-0001"
    assert {item.signal for item in incident.status.evidence} >= {"kb_chroma_breaker_state", "kb_canary_success_ratio"}
    assert all(item.value and item.threshold and item.at for item in incident.status.evidence)
    assert (attempt.option, attempt.outcome) == ("RestartChroma", "Successful")
    assert (attempt.action.type, attempt.action.target.uid) == ("RestartPod", scenario.hung.uid)
    moments = [attempt.started, attempt.acted, attempt.finished]
    assert None not in moments, "a moment of the attempt is missing"
    assert moments == sorted(moment for moment in moments if moment)
    told = [entry.at for entry in incident.status.timeline]
    assert len(told) >= 4
    assert told == sorted(told)
    conditions = {item.type: item.status for item in incident.status.conditions}
    assert (conditions["Active"], conditions["Remediated"], conditions["Resolved"]) == ("False", "True", "True")


def test_describe_shows_all_of_it(scenario: Scenario) -> None:
    incident = scenario.outage.incident
    shown = scenario.library.cluster.kubectl.run("describe", "kbi", incident.name, "-n", scenario.library.namespace)

    for wanted in ("kb_canary_success_ratio", "RestartChroma", scenario.hung.uid, "Successful", "Timeline"):
        assert wanted in shown


def test_events_say_what_happened(scenario: Scenario) -> None:
    library = scenario.library
    about = [*library.events(library.name), *library.events(scenario.outage.incident.name)]
    reasons = {event.reason for event in about}
    told = {entry.reason for entry in scenario.outage.incident.status.timeline}

    assert len(reasons & told) >= 3, f"events: {reasons}, timeline: {told}"


def test_metrics_count_it(scenario: Scenario, installation: Installation) -> None:
    leader = installation.leader()
    assert leader is not None
    families = text_string_to_metric_families(installation.metrics(leader))
    found = [sample for family in families for sample in family.samples]
    ended = {(item.labels.get("option"), item.labels.get("outcome")): item.value for item in found}
    of_chroma = [item for item in found if item.labels.get("incident") == "ChromaUnreachable"]
    unclosed = {item.value for item in of_chroma if item.name == "knowledgebeast_incident_open"}

    assert ended["RestartChroma", "Successful"] >= 1
    assert unclosed == {0}


def test_the_pod_was_deleted_once(scenario: Scenario, audit: AuditLog) -> None:
    calls = audit.calls(since=scenario.began, user=OPERATOR)

    assert len(pod_deletions(calls, scenario.hung.name)) == 1
