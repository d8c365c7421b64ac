"""Conditions and the summary: what a person reads about an object."""

from dataclasses import replace

import pytest
from prometheus_client import REGISTRY

from kb_facts import (
    NOW,
    OPEN,
    changing,
    chroma,
    facts,
    failed,
    incident,
    minutes,
    per_pod,
    pod,
    policy,
    seconds,
    series,
    situation,
    unknown,
    waiting,
    worse,
)
from knowledgebeast_operator.core.conditions import Condition, Observed, Status, object_conditions, set_condition
from knowledgebeast_operator.core.decide import decide
from knowledgebeast_operator.core.facts import Facts, Known, OwnWork, Pod
from knowledgebeast_operator.core.ledger import IncidentRecord, Journal
from knowledgebeast_operator.core.overview import Operands, Overview, Turn
from knowledgebeast_operator.core.policy import Policy
from knowledgebeast_operator.core.summary import Summary, summarize
from knowledgebeast_operator.core.transition import transition
from knowledgebeast_operator.record.signal_metrics import SignalGauge
from knowledgebeast_operator.runbooks.chroma_unreachable import RUNBOOK

APPLIED = Operands(is_applied=True, desired_service_pods=2)
DOWN = facts(chroma_up=False, chroma_pods=chroma(pod(is_ready=False)))
NO_IMAGE = replace(DOWN, chroma_pods=chroma(pod(is_ready=False, container=waiting("ErrImagePull", "no such tag"))))


def overview(
    at: Facts | None = None,
    *,
    incident: IncidentRecord | None = None,
    policy: Policy | None = None,
    journal: Journal | None = None,
    operands: Operands = APPLIED,
    is_assessed: bool = True,
) -> Overview:
    """An object after one tick, whose decision has been written down."""
    assessed = situation(at, incident=incident, policy=policy, journal=journal)
    decision = decide(assessed)
    after = transition(incident, decision, NOW) if incident is not None else None
    return Overview(
        facts=assessed.facts,
        policy=assessed.policy,
        journal=assessed.journal,
        operands=operands,
        runbooks=(RUNBOOK,),
        turns=(Turn(assessed, decision, after),) if is_assessed else (),
    )


def conditions(of: Overview, previous: tuple[Condition, ...] = ()) -> dict[str, tuple[str, str]]:
    return {c.type: (str(c.status), c.reason) for c in object_conditions(of, previous)}


NAMES = {
    *("Ready", "Degraded", "SignalsAvailable", "RemediationAllowed", "Reconciling", "Stalled", "RestoreBlocked"),
    "ChromaUnreachable",
}


def test_every_condition_is_there_from_the_first_visit() -> None:
    first = conditions(overview(operands=Operands(is_applied=None, desired_service_pods=2), is_assessed=False))
    assert set(first) == NAMES
    assert {name for name, (status, _) in first.items() if status == "Unknown"} == {
        "Ready", "SignalsAvailable", "RemediationAllowed", "RestoreBlocked", "ChromaUnreachable",
    }  # fmt: skip


def test_a_healthy_object() -> None:
    assert conditions(overview()) == {
        "Ready": ("True", "Serving"),
        "Degraded": ("False", "FullService"),
        "SignalsAvailable": ("True", "AllSignalsFresh"),
        "RemediationAllowed": ("True", "Allowed"),
        "Reconciling": ("False", "UpToDate"),
        "Stalled": ("False", "NoHumanNeeded"),
        "RestoreBlocked": ("False", "NotBlocked"),
        "ChromaUnreachable": ("False", "NotDetected"),
    }


def test_the_condition_of_an_incident_that_is_not_there_says_nothing_that_changes() -> None:
    first, later = (object_conditions(overview(facts(error_ratio=Known(ratio, NOW)))) for ratio in (0.0, 0.001))
    assert first == later
    assert next(item.message for item in first if item.type == "ChromaUnreachable") == "Chroma answers."


UNREADY = Known((pod("demo-a", is_ready=False),), NOW)
ROWS: dict[str, tuple[Overview, dict[str, tuple[str, str]]]] = {
    "an_incident_goes_on": (
        overview(DOWN, incident=incident()),
        {
            "ChromaUnreachable": ("True", "ChromaHung"),
            "Degraded": ("True", "KeywordSearchOnly"),
            "Ready": ("True", "Serving"),
            "RemediationAllowed": ("True", "Allowed"),
            "Stalled": ("False", "NoHumanNeeded"),
        },
    ),
    "a_suspicion_is_no_incident": (
        overview(facts(chroma_up=False, down_for=seconds(10))), {"ChromaUnreachable": ("False", "Holding")},
    ),
    "recovering": (
        overview(facts(breaker_state=per_pod(changing(OPEN, 0.0, since=seconds(20)))), incident=incident()),
        {"ChromaUnreachable": ("False", "Recovering")},
    ),
    "a_missing_signal_is_named": (
        overview(facts(breaker_state=unknown())),
        {
            "SignalsAvailable": ("False", "PrometheusUnreachable"),
            "ChromaUnreachable": ("Unknown", "PrometheusUnreachable"),
        },
    ),
    "degraded_mode_is_unknown": (
        overview(facts(degraded_mode=unknown("kb_degraded_mode"))), {"Degraded": ("Unknown", "PrometheusUnreachable")},
    ),
    "one_pod_is_degraded": (
        overview(facts(degraded_mode=Known({"demo-a": series(0.0), "demo-b": series(1.0)}, NOW))),
        {"Degraded": ("True", "KeywordSearchOnly")},
    ),
    "no_service_pod_is_ready": (
        overview(facts(service_pods=UNREADY)),
        {"Ready": ("False", "NoServicePodReady"), "SignalsAvailable": ("False", "NoReadyPod")},
    ),
    "the_pods_are_unknown": (
        overview(facts(service_pods=unknown("pods"))), {"Ready": ("Unknown", "PrometheusUnreachable")},
    ),
    "ready_is_not_said_before_everything_is_applied": (
        overview(operands=Operands(is_applied=False, desired_service_pods=2)),
        {"Ready": ("False", "OperandsNotApplied")},
    ),
    "what_cannot_be_applied_needs_a_human": (
        overview(operands=Operands(is_applied=False, desired_service_pods=2, problem="The claim is too small.")),
        {"Stalled": ("True", "OperandsNotApplied"), "Ready": ("False", "OperandsNotApplied")},
    ),
    "a_rollout_is_reconciling": (
        overview(facts(own_work=(OwnWork("Rollout", "service", "1 of 2 pods is new", NOW),))),
        {"Reconciling": ("True", "Rollout")},
    ),
    "paused": (overview(policy=policy(pause_annotation="x")), {"RemediationAllowed": ("False", "Paused")}),
    "disabled": (overview(policy=policy(mode="Disabled")), {"RemediationAllowed": ("False", "Disabled")}),
    "dry_run": (overview(policy=policy(mode="DryRun")), {"RemediationAllowed": ("False", "DryRun")}),
    "a_setting_that_cannot_be_honoured": (
        overview(policy=policy(runbooks=[{"name": "ChromaUnreachable", "for": "5s"}])),
        {"RemediationAllowed": ("False", "InvalidPolicy"), "Stalled": ("True", "InvalidPolicy")},
    ),
    "a_runbook_that_nobody_has": (
        overview(policy=policy(runbooks=[{"name": "Nonsense"}])),
        {"RemediationAllowed": ("True", "Allowed"), "Stalled": ("True", "InvalidPolicy")},
    ),
    "the_budget_is_used_up": (
        overview(
            journal=Journal(attempts=(failed(),)), policy=policy(budget={"maxActions": 1, "per": "1h"})
        ),
        {"RemediationAllowed": ("False", "BudgetExhausted")},
    ),
    "stopped_by_harm": (
        overview(journal=Journal(attempts=(worse(1), worse(2)))), {"RemediationAllowed": ("False", "MadeWorse")},
    ),
    "waiting_for_our_own_work": (
        overview(replace(DOWN, own_work=(OwnWork("Resize", "chroma", "growing", NOW),)), incident=incident()),
        {"RemediationAllowed": ("False", "OwnWork"), "Reconciling": ("True", "Resize")},
    ),
    "a_human_is_needed": (overview(NO_IMAGE, incident=incident()), {"Stalled": ("True", "Escalated")}),
}  # fmt: skip


@pytest.mark.parametrize(("of", "expected"), ROWS.values(), ids=ROWS.keys())
def test_conditions(of: Overview, expected: dict[str, tuple[str, str]]) -> None:
    found = conditions(of)
    assert set(found) == NAMES
    assert {name: found[name] for name in expected} == expected


def test_the_time_of_a_condition_changes_only_with_its_status() -> None:
    up = Observed(status=Status.TRUE, reason="A", message="a")
    first = set_condition((), "Ready", up, generation=1, now=NOW)
    same = set_condition(first, "Ready", up.model_copy(update={"reason": "B"}), generation=2, now=NOW + minutes(1))
    other = set_condition(
        same, "Ready", up.model_copy(update={"status": Status.FALSE}), generation=2, now=NOW + minutes(2)
    )
    assert (same[0].last_transition_time, same[0].reason, same[0].observed_generation) == (NOW, "B", 2)
    assert other[0].last_transition_time == NOW + minutes(2)


def test_the_same_tick_twice_gives_the_same_conditions() -> None:
    once = object_conditions(overview(DOWN, incident=incident()))
    assert object_conditions(overview(DOWN, incident=incident()), once) == once


def test_conditions_of_others_are_left_alone() -> None:
    theirs = set_condition((), "Theirs", Observed(status=Status.TRUE, reason="A", message=""), generation=1, now=NOW)
    assert theirs[0] in object_conditions(overview(), theirs)


def test_a_condition_is_a_metav1_condition() -> None:
    ready = object_conditions(overview())[0].model_dump(mode="json", by_alias=True)
    assert set(ready) == {"type", "status", "reason", "message", "observedGeneration", "lastTransitionTime"}
    assert ready["status"] == "True"


SUMMARIES: dict[str, tuple[Overview, Summary]] = {
    "well": (
        overview(),
        Summary(
            problem="Nothing is wrong.",
            done="Nothing had to be done recently.",
            next="The operator watches.",
            needed="Nothing.",
        ),
    ),
    "about_to_restart": (
        overview(DOWN, incident=incident()),
        Summary(
            problem="ChromaUnreachable: ",
            done="2026-01-07 12:00:00 UTC RestartChroma (demo-chroma-unreachable-0001-1): written down",
            next="Now: Delete Pod demo-chroma-0",
            needed="Nothing.",
        ),
    ),
    "a_human_is_needed": (
        overview(NO_IMAGE, incident=incident(failed())),
        Summary(
            problem="ChromaUnreachable: ",
            done="2026-01-07 11:50:00 UTC RestartChroma (demo-chroma-unreachable-0001-1): Failed. Nothing changed.",
            next="A human is called (NoOptionApplicable).",
            needed="A restart of Chroma does not help. Fix the image name",
        ),
    ),
    "unknown": (
        overview(facts(breaker_state=unknown())),
        Summary(
            problem="Whether there is ChromaUnreachable is unknown",
            done="Nothing had",
            next="Nothing is done until the signals are back.",
            needed="If it stays so: bring back kb_chroma_breaker_state (PrometheusUnreachable).",
        ),
    ),
    "paused": (
        overview(DOWN, incident=incident(), policy=policy(pause_annotation="moving")),
        Summary(problem="ChromaUnreachable: ", done="Nothing", next="Nothing is done. Paused", needed="Paused"),
    ),
    "not_assessed": (
        overview(is_assessed=False),
        Summary(problem="Not assessed yet.", done="Nothing", next="The object is assessed", needed="Nothing."),
    ),
    "not_applied": (
        overview(operands=Operands(is_applied=False, desired_service_pods=2, problem="The claim is too small.")),
        Summary(
            problem="The claim is too small.", done="Nothing", next="The operator", needed="The claim is too small."
        ),
    ),
}


@pytest.mark.parametrize(("of", "expected"), SUMMARIES.values(), ids=SUMMARIES.keys())
def test_summary(of: Overview, expected: Summary) -> None:
    found = summarize(of).model_dump()
    for line, beginning in expected.model_dump().items():
        assert found[line].startswith(beginning), (line, found[line])


def test_a_summary_fits_the_schema() -> None:
    long = replace(DOWN, chroma_pods=chroma(pod(is_ready=False, container=waiting("ErrImagePull", "x" * 5000))))
    assert all(len(line) <= 1024 for line in summarize(overview(long, incident=incident())).model_dump().values())


def test_a_terminating_pod_does_not_serve() -> None:
    leaving: Known[tuple[Pod, ...]] = Known((pod("demo-a", is_terminating=True),), NOW)
    assert conditions(overview(facts(service_pods=leaving)))["Ready"] == ("False", "NoServicePodReady")


def test_whether_signals_are_available_is_a_series_of_the_object() -> None:
    gauge = SignalGauge()

    def shown() -> float | None:
        labels = {"object_namespace": "ns", "object": "demo"}
        return REGISTRY.get_sample_value("knowledgebeast_signals_available", labels)

    gauge.report(overview(is_assessed=False))
    assert shown() is None
    gauge.report(overview())
    assert shown() == 1
    gauge.report(overview(replace(facts(), breaker_state=unknown())))
    assert shown() == 0
    gauge.forget("uid-demo")
    assert shown() is None
