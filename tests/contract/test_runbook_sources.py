"""What the runbook mapping reads from code, rules and tests: it has to notice what is missing."""

import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from knowledgebeast_operator import docs, runbooks
from knowledgebeast_operator import docs_sources as sources
from knowledgebeast_operator.core.actions import PutFields, RestartPod, RunFencedTask, Target
from knowledgebeast_operator.core.runbook import NotApplicable, Option, Runbook, Verdict
from knowledgebeast_operator.docs_sources import MissingSourceError

ROOT = Path(__file__).parents[2]
LOADED = runbooks.load()
BY_CODE = {option.code: option for runbook in LOADED for option in runbook.options}
TARGET = Target(kind="Pod", name="demo-chroma-0", uid="1")


def restart() -> RestartPod:
    return RestartPod(target=TARGET)


def directly(*_: object) -> NotApplicable:
    made = restart()
    return NotApplicable(made.type, f"{isinstance(made, PutFields)}")


def of_kind(kind: type[RunFencedTask]) -> RunFencedTask:
    return kind(target=TARGET, task="reindex")


def handed_on(*_: object) -> NotApplicable:
    return NotApplicable(of_kind(RunFencedTask).type, "")


def nothing(*_: object) -> NotApplicable:
    return NotApplicable("Never", "")


def unverified(*_: object) -> Verdict:
    raise NotImplementedError


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The files that the page reads, to take some away."""
    for folder in ("manifests/monitoring", "tests/faults", "tests/e2e", "tests/unit/runbooks"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.mark.parametrize(
    ("code", "actions"),
    [
        ("1D", ("RollingRestart",)),
        ("2A", ("RestartPod",)),
        ("2B", ("PutFields",)),
        ("4B", ()),
        ("4C", ()),
        ("5D", ("SetFields",)),
        ("7B", ()),
        ("8E", ("RunTask",)),
        ("8B", ("RunFencedTask",)),
    ],
)
def test_actions_are_those_that_the_code_makes(code: str, actions: tuple[str, ...]) -> None:
    assert sources.actions_of(BY_CODE[code]) == actions


def test_actions_are_found_in_what_is_called_and_not_where_they_are_only_asked_about(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sources, "PACKAGE", __name__.partition(".")[0])
    assert sources.actions_of(Option("9A", "Directly", directly, unverified)) == ("RestartPod",)
    assert sources.actions_of(Option("9B", "HandedOn", handed_on, unverified)) == ("RunFencedTask",)
    assert sources.actions_of(Option("9C", "Nothing", nothing, unverified)) == ()


def test_alerts_are_read_with_severity_and_hold() -> None:
    told = {alert.name: alert.describe() for alert in sources.alerts()}
    assert told["ChromaUnreachable"] == "`ChromaUnreachable` (critical, for 30s)"
    assert told["DatabaseCorruption"] == "`DatabaseCorruption` (critical)"


def test_every_scenario_and_every_option_of_one_is_on_the_page() -> None:
    page = docs.render(LOADED)
    files = {
        path.name for path in (ROOT / "tests/faults").glob("*.py") if not path.name.startswith(sources.WITHOUT_FAULT)
    }
    assert sorted(name for name in files if f"`tests/faults/{name}`" not in page) == []


def test_a_scenario_that_is_gone_changes_the_page(repository: Path) -> None:
    before = sources.scenarios(LOADED, repository)
    (repository / "tests/faults/chroma_hung.py").unlink()
    assert sources.scenarios(LOADED, repository) != before


def test_an_end_to_end_test_that_is_gone_changes_the_page(repository: Path) -> None:
    chroma = next(runbook for runbook in LOADED if runbook.name == "ChromaUnreachable")
    before = sources.end_to_end(chroma, repository)
    (repository / "tests/e2e/test_chroma_hung.py").unlink()
    assert len(sources.end_to_end(chroma, repository)) == len(before) - 1


def _disk(runbooks_: Iterable[Runbook]) -> Runbook:
    return next(runbook for runbook in runbooks_ if runbook.name == "DiskSpaceCritical")


def test_a_runbook_without_its_table_test_is_refused(repository: Path) -> None:
    (repository / sources.table_test(_disk(LOADED), repository)).unlink()
    with pytest.raises(MissingSourceError, match="test_disk_space_critical"):
        sources.table_test(_disk(LOADED), repository)


def test_a_runbook_without_a_scenario_is_refused(repository: Path) -> None:
    for option in _disk(LOADED).options:
        for path in sources.scenarios(LOADED)[option.code]:
            (repository / path).unlink(missing_ok=True)
    with pytest.raises(MissingSourceError, match="DiskSpaceCritical"):
        sources.scenarios(LOADED, repository)


def test_a_scenario_of_no_option_is_refused(repository: Path) -> None:
    (repository / "tests/faults/odd.py").write_text('"""9Z: nobody knows."""\n')
    with pytest.raises(MissingSourceError, match=r"odd\.py"):
        sources.scenarios(LOADED, repository)


def test_the_check_tells_what_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sources, "alerts", lambda: ())
    assert docs.main(["--check", str(ROOT / "docs/runbook-mapping.md")]) == 1
    assert "no alert is named HighQueryLatency" in capsys.readouterr().err
