"""What holds the operator back. One outage, one switch after the other: only when the last one is off does it act."""

import json
from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from harness.audit import OPERATOR, AuditLog, Call, now, operand_writes
from harness.figures import Figures
from harness.kinds import Incident, KnowledgeBeast
from harness.library import Library, MakeLibrary
from harness.load.records import Summary, summarize
from harness.wait import stays, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

PAUSED = "knowledgebeast.io/paused"
WATCHED_SECONDS = 12  # after the incident was opened, two ticks are enough to act


@dataclass(frozen=True)
class Phase:
    """How it was when one of the switches was on, and for how long it was watched."""

    began: datetime
    ended: datetime
    knowledgebeast: KnowledgeBeast
    incident: Incident


@dataclass(frozen=True)
class Scenario:
    library: Library
    disabled: Phase
    dry_run: Phase
    paused: Phase
    annotated: Phase
    policy_was_left_alone: bool  # an operand that was deleted by hand while the mode was Disabled
    end: Incident
    summary: Summary


@pytest.fixture(scope="module")
def scenario(make_library: MakeLibrary, rate: float, folder: Path, figures: Figures) -> Generator[Scenario]:
    with make_library("modes") as library, library.load(folder, rate=rate) as load:
        set_mode(library, "Disabled")
        kubectl = library.cluster.kubectl
        with library.chroma.hung() as pod:
            hung = pod.uid
            disabled_since = now()
            wait_for("the incident", library.incidents, timeout=60, explain=library.explain)
            kubectl.delete("networkpolicy", library.chroma.stateful_set, library.namespace)
            disabled = watch(library, hung, disabled_since)
            left_alone = not has_policy(library)

            set_mode(library, "DryRun")
            wait_for("the attempt on paper", lambda: library.incidents()[0].status.attempts, timeout=30,
                     explain=library.explain)  # fmt: skip
            dry_run = watch(library, hung, now())

            library.patch({"spec": {"remediation": {"mode": "Enforce", "pauses": [{"reason": "a migration"}]}}})
            paused = watch(library, hung, now())

            library.patch({"metadata": {"annotations": {PAUSED: "somebody looks at it"}}})
            library.patch({"spec": {"remediation": {"pauses": []}}})
            annotated = watch(library, hung, now())

            library.patch({"metadata": {"annotations": {PAUSED: None}}})
            library.chroma.ready_pod(unlike=hung, timeout=60)
        wait_for("the incident to close", lambda: library.incidents()[0].is_resolved, timeout=120,
                 explain=library.explain)  # fmt: skip
        wait_for("the deleted policy", lambda: has_policy(library), timeout=30, explain=library.explain)
        library.wait_until_well()
        summary = summarize(load.stop())
        figures(f"Disabled, DryRun, paused: {summary.sentence()}")
        end = library.incidents()[0]
        yield Scenario(library, disabled, dry_run, paused, annotated, left_alone, end, summary)


def set_mode(library: Library, mode: str) -> None:
    library.patch({"spec": {"remediation": {"mode": mode}}})
    library.wait_for_condition("RemediationAllowed", "False", timeout=30)


def watch(library: Library, hung: str, began: datetime) -> Phase:
    library.wait_for_condition("RemediationAllowed", "False", timeout=30)
    stays("the hung Chroma is left alone", lambda: library.chroma.pod_uid() == hung, seconds=WATCHED_SECONDS)
    return Phase(began, now(), library.get(), library.incidents()[0])


def has_policy(library: Library) -> bool:
    listed = library.cluster.kubectl.run("get", "networkpolicy", f"--namespace={library.namespace}", "--output=json")
    names = [item["metadata"]["name"] for item in json.loads(listed)["items"]]
    return library.chroma.stateful_set in names


def writes(audit: AuditLog, phase: Phase) -> list[str]:
    calls: list[Call] = audit.calls(since=phase.began, user=OPERATOR)
    return [str(call) for call in operand_writes(calls) if call.request_received_timestamp <= phase.ended]


def test_disabled_writes_to_no_operand(scenario: Scenario, audit: AuditLog) -> None:
    assert writes(audit, scenario.disabled) == []
    assert scenario.policy_was_left_alone


def test_disabled_still_records(scenario: Scenario) -> None:
    assert scenario.disabled.incident.status.evidence
    assert scenario.disabled.incident.status.attempts == ()
    assert scenario.disabled.knowledgebeast.has("ChromaUnreachable", "True")


def test_a_dry_run_writes_down_what_it_would_do(scenario: Scenario) -> None:
    (attempt,) = scenario.dry_run.incident.status.attempts

    assert (attempt.option, attempt.outcome, attempt.acted) == ("RestartChroma", "DryRun", None)


def test_a_dry_run_and_pauses_restart_nothing(scenario: Scenario, audit: AuditLog) -> None:
    for phase in (scenario.dry_run, scenario.paused, scenario.annotated):
        assert [call for call in writes(audit, phase) if " pods " in call] == []


def test_a_pause_says_why(scenario: Scenario) -> None:
    by_field = scenario.paused.knowledgebeast.condition("RemediationAllowed")
    by_annotation = scenario.annotated.knowledgebeast.condition("RemediationAllowed")

    assert by_field is not None
    assert by_annotation is not None
    assert "a migration" in by_field.message
    assert "somebody looks at it" in by_annotation.message


def test_it_acts_when_nothing_holds_it_back(scenario: Scenario) -> None:
    done = [attempt for attempt in scenario.end.status.attempts if attempt.outcome == "Successful"]

    assert len(done) == 1
    assert scenario.end.is_resolved


def test_no_query_fails(scenario: Scenario) -> None:
    assert scenario.summary.failed == 0, scenario.summary.errors
