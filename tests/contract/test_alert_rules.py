"""Alerting rules read only what the programs export, and fire when they should (`promtool test rules`)."""

import re
from functools import lru_cache
from pathlib import Path

import pytest
import yaml
from prometheus_client import generate_latest

from knowledgebeast_operator import runbooks
from knowledgebeast_operator.record import metrics as operator_metrics
from knowledgebeast_service.telemetry.metrics import TABLE
from promtool import run_promtool

RULES = Path(__file__).parents[2] / "manifests" / "monitoring" / "knowledgebeast.rules.yaml"

NAME = re.compile(r"\b(?:kb|knowledgebeast|http)_[a-z_]+\b")
HISTOGRAM_PARTS = re.compile(r"_(bucket|count|sum)$")


@lru_cache(maxsize=1)
def rules() -> list[dict[str, str]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def name_of(rule: dict[str, str]) -> str:
    return rule.get("alert") or rule["record"]


@lru_cache(maxsize=1)
def exported() -> set[str]:
    operator_metrics.register(runbooks.load(), ["pods"])
    shown = generate_latest(operator_metrics.registry()).decode()
    by_operator = set(re.findall(r"^(?:# TYPE )?(knowledgebeast_[a-z_]+)", shown, flags=re.MULTILINE))
    return {metric.name for metric in TABLE} | {HISTOGRAM_PARTS.sub("", name) for name in by_operator}


@pytest.mark.parametrize("rule", rules(), ids=name_of)
def test_a_rule_reads_only_exported_metrics(rule: dict[str, str]) -> None:
    read = {HISTOGRAM_PARTS.sub("", name) for name in NAME.findall(rule["expr"])}
    assert read
    assert read <= exported()


def test_a_metric_that_nobody_exports_would_be_found() -> None:
    assert "kb_embedding_gpu_percent" not in exported()


def test_alerts_of_incidents_are_named_like_their_runbooks() -> None:
    assert {runbook.name for runbook in runbooks.load()} <= {name_of(rule) for rule in rules()}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", ["knowledgebeast.rules.test.yaml", "knowledgebeast.rules.slow.test.yaml"])
def test_the_rules_pass_their_own_tests(name: str) -> None:
    done = run_promtool("test", "rules", RULES.with_name(name))
    assert done.returncode == 0, done.stdout + done.stderr
