"""What a runbook needs beside its module: a table test, its section in the docs, signals that somebody exports."""

import re
from pathlib import Path

import pytest
import yaml

from kb_facts import facts
from knowledgebeast_operator import docs, runbooks
from knowledgebeast_operator.core.conditions import object_conditions
from knowledgebeast_operator.core.ledger import Journal
from knowledgebeast_operator.core.overview import Operands, Overview
from knowledgebeast_operator.core.policy import Policy
from knowledgebeast_operator.core.regression import SCALES
from knowledgebeast_operator.core.runbook import Runbook
from knowledgebeast_operator.docs_sources import module_name

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "operator/src/knowledgebeast_operator"
LOADED = runbooks.load()
HEADINGS = ["Signal", "Diagnosis", "Options", "Verify", "Escalate"]

OF_THE_KUBELET = {
    "container_cpu_usage_seconds_total",
    "container_memory_working_set_bytes",
    "kubelet_volume_stats_available_bytes",
    "kubelet_volume_stats_capacity_bytes",
    "machine_cpu_cores",
    "machine_memory_bytes",
}

each_runbook = pytest.mark.parametrize("runbook", LOADED, ids=lambda runbook: runbook.name)


def test_every_module_of_the_folder_is_a_runbook() -> None:
    modules = {path.stem for path in (PACKAGE / "runbooks").glob("*.py")} - {"__init__"}
    assert {module_name(runbook) for runbook in LOADED} == modules


@each_runbook
def test_it_has_a_table_test(runbook: Runbook) -> None:
    assert (ROOT / "tests/unit/runbooks" / f"test_{module_name(runbook)}.py").is_file()


@each_runbook
def test_its_docstring_has_the_headings_of_the_runbook(runbook: Runbook) -> None:
    text = (PACKAGE / "runbooks" / f"{module_name(runbook)}.py").read_text()
    assert re.findall(r"^([A-Z][a-z]+)$", text.split('"""')[1], flags=re.MULTILINE) == HEADINGS


@each_runbook
def test_its_name_is_a_condition_a_label_and_a_crd_value(runbook: Runbook) -> None:
    crd = yaml.safe_load((ROOT / "crds/incidents.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["runbook"]
    assert re.fullmatch(schema["pattern"], runbook.name)
    bare = Overview(facts(), Policy(), Journal(), Operands(is_applied=None, desired_service_pods=2), LOADED)
    assert runbook.name in {condition.type for condition in object_conditions(bare)}


@each_runbook
def test_its_alert_bears_its_name(runbook: Runbook) -> None:
    rules = (ROOT / "manifests/monitoring/knowledgebeast.rules.yaml").read_text()
    alerts = re.findall(r"alert: (\w+)", rules)
    assert runbook.name in alerts


@each_runbook
def test_it_says_which_signals_it_reads(runbook: Runbook) -> None:
    text = (PACKAGE / "runbooks" / f"{module_name(runbook)}.py").read_text()
    assert runbook.signals
    assert len(set(runbook.signals)) == len(runbook.signals)
    for literal in re.findall(r'"(kb_[a-z_]+)"', text):
        assert literal in runbook.signals


@each_runbook
def test_its_signals_are_exported_by_the_service_or_the_kubelet(runbook: Runbook) -> None:
    metrics = ROOT / "service/src/knowledgebeast_service/telemetry/metrics.py"
    exported = metrics.read_text()
    assert [signal for signal in runbook.signals if signal not in exported and signal not in OF_THE_KUBELET] == []


@each_runbook
def test_its_options_are_named_after_it_and_once(runbook: Runbook) -> None:
    codes = [option.code for option in runbook.options]
    names = [option.name for option in runbook.options]
    assert all(re.fullmatch(rf"{runbook.number}[A-Z]", code) for code in codes)
    assert len(set(codes)) == len(codes)
    assert len(set(names)) == len(names)


@each_runbook
def test_its_indicators_can_be_compared(runbook: Runbook) -> None:
    text = (PACKAGE / "runbooks" / f"{module_name(runbook)}.py").read_text()
    assert set(re.findall(r'Sli\(name="([a-z_]+)"', text)) <= set(SCALES)


def test_the_page_in_docs_is_the_generated_one() -> None:
    assert docs.main(["--check", str(ROOT / "docs/runbook-mapping.md")]) == 0


def test_a_stale_page_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stale = tmp_path / "runbook-mapping.md"
    stale.write_text(docs.render(LOADED) + "edited by hand\n")
    assert docs.main(["--check", str(stale)]) == 1
    assert "is stale" in capsys.readouterr().err


def test_the_page_names_every_runbook_and_its_parts(capsys: pytest.CaptureFixture[str]) -> None:
    assert docs.main([]) == 0
    page = capsys.readouterr().out
    for runbook in LOADED:
        assert f"`{runbook.name}`" in page
        assert all(f"**{heading}.**" in page for heading in HEADINGS)
        assert all(f"{option.code} {option.name}" in page for option in runbook.options)
