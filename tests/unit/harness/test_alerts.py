"""Which alerts a scenario allows, and which of them are about its object."""

import contextlib

import pytest
import yaml

from harness.alerts import OF_TRAFFIC, may_fire, of_namespace
from harness.rules import INTERVAL, RULES, alert_names, paced
from harness.scenario import End, Scenario, load_scenarios

CALM = frozenset(alert for alerts in OF_TRAFFIC.values() for alert in alerts)


def scenario(*, alerts: tuple[str, ...] = (), **spec: object) -> Scenario:
    return Scenario("a fault", lambda _library: contextlib.nullcontext(), End.RESOLVED, alerts=alerts, spec=spec)


def test_alerts_of_traffic_mean_nothing_where_their_runbook_is_kept_out() -> None:
    assert may_fire(scenario()) == CALM


def test_a_scenario_about_a_runbook_answers_for_its_alert() -> None:
    watched = {"runbooks": [{"name": "HighQueryLatency", "thresholds": {"minimumQueries": 200}}]}
    assert may_fire(scenario(remediation=watched)) == CALM - {"HighQueryLatency", "QueryLatencyRising"}


def test_what_a_scenario_names_may_fire() -> None:
    assert may_fire(scenario(alerts=("DiskSpaceCritical",))) == CALM | {"DiskSpaceCritical"}


def test_alerts_are_told_apart_by_the_namespace_of_the_object() -> None:
    here = {"alertname": "ChromaUnreachable", "namespace": "search", "object": "demo"}
    there = {**here, "namespace": "other"}
    backup = {"alertname": "BackupOverdue", "object_namespace": "search", "namespace": "knowledgebeast-system"}
    assert of_namespace([here, there, backup], "search") == {"ChromaUnreachable", "BackupOverdue"}
    assert of_namespace([there], "search") == frozenset()


@pytest.mark.parametrize("name", load_scenarios())
def test_alerts_that_a_scenario_names_exist(name: str) -> None:
    assert set(load_scenarios()[name].alerts) <= alert_names()


def test_rules_are_evaluated_at_their_own_pace_and_stay_as_they_are() -> None:
    text = RULES.read_text(encoding="utf-8")
    made = yaml.safe_load(paced(text))["groups"]
    assert [group.pop("interval") for group in made] == [INTERVAL] * len(made)
    assert made == yaml.safe_load(text)["groups"]


def test_alerts_of_traffic_exist() -> None:
    assert alert_names() >= CALM
