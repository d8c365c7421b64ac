"""The generated reference names everything there is, and --check sees when a file is stale."""

from pathlib import Path

import pytest

from knowledgebeast_service import docs
from knowledgebeast_service.settings import Settings
from knowledgebeast_service.telemetry.metrics import TABLE

COMMANDS = ("serve", "ingest", "query", "projects", "eval", "bench", "maintain check", "keys new", "build-model")


def test_every_setting_metric_and_command_is_there() -> None:
    page = docs.render()
    assert all(f"| `{name.upper()}` | `--{name.replace('_', '-')}` |" in page for name in Settings.model_fields)
    assert all(f"| `{metric.name}` |" in page for metric in TABLE)
    assert all(f"### `knowledgebeast {command}`" in page for command in COMMANDS)


def test_bounds_choices_and_defaults_are_told() -> None:
    page = docs.render()
    assert "| `0` | ≥ 0, ≤ 16 | yes |" in page.split("`TRUSTED_PROXIES`")[1].splitlines()[0]
    assert "| `debug`, `info`, `warning`, `error` | yes |" in page


def test_it_does_not_depend_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    first = docs.render()
    for name, value in {"COLUMNS": "40", "PORT": "1234", "KUBERNETES_SERVICE_HOST": "x", "DATA_DIR": "/x"}.items():
        monkeypatch.setenv(name, value)
    assert docs.render() == first


def test_a_stale_file_is_told_with_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(docs.render(), encoding="utf-8")
    assert docs.main(["--check", str(page)]) == 0
    page.write_text("old")
    assert docs.main(["--check", str(page)]) == 1
    assert "python -m knowledgebeast_service.docs >" in capsys.readouterr().err
