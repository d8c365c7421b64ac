import json
import logging
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from knowledgebeast_service.live_settings import LiveSettingsSource
from knowledgebeast_service.settings import LiveSettings, Settings


def config_map(folder: Path, name: str, content: str) -> None:
    """Swap the file as a ConfigMap volume does: a new folder, then one rename of a symlink."""
    (folder / name).mkdir()
    (folder / name / "settings.json").write_text(content)
    (folder / "next").symlink_to(name)
    (folder / "next").replace(folder / "..data")
    if not (folder / "settings.json").is_symlink():
        (folder / "settings.json").symlink_to("..data/settings.json")


def test_a_swapped_config_map_is_taken_over_and_listeners_are_told(tmp_path: Path) -> None:
    source = LiveSettingsSource(LiveSettings(), tmp_path / "settings.json")
    told: list[int] = []
    source.subscribe(lambda values: told.append(values.rate_limit_per_minute))
    for name, limit in (("v1", 5), ("v2", 6)):
        config_map(tmp_path, name, json.dumps({"RATE_LIMIT_PER_MINUTE": limit, "unknown": 1}))
        source.poll()
        source.poll()
    assert told == [100, 5, 6]


@pytest.mark.parametrize("broken", ["", "{", "[]", '{"rate_limit_per_minute": -1}', '{"LOG_LEVEL": "loud"}'])
def test_a_broken_file_keeps_the_last_good_values_and_is_logged_once(
    broken: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    errors: list[None] = []
    file = tmp_path / "settings.json"
    source = LiveSettingsSource(LiveSettings(), file, on_error=lambda: errors.append(None))
    file.write_text('{"QUERY_CACHE_SIZE": 7}')
    source.poll()
    file.write_text(broken)
    caplog.clear()
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            source.poll()
    assert source.current.query_cache_size == 7
    assert (len(errors), len(caplog.records)) == (3, 1)
    file.write_text('{"QUERY_CACHE_SIZE": 8}')
    source.poll()
    assert source.current.query_cache_size == 8


def test_a_key_that_is_taken_out_returns_to_what_the_process_was_started_with(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    source = LiveSettingsSource(LiveSettings(query_cache_size=3), file)
    file.write_text('{"QUERY_CACHE_SIZE": 7}')
    source.poll()
    file.write_text("{}")
    source.poll()
    assert source.current.query_cache_size == 3


def test_a_missing_file_is_an_error_not_a_crash(tmp_path: Path) -> None:
    errors: list[None] = []
    LiveSettingsSource(LiveSettings(), tmp_path / "absent", on_error=lambda: errors.append(None)).poll()
    assert len(errors) == 1


def test_environment_names_are_the_fields_in_capitals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMA_TIMEOUT_SECONDS", "2.5")
    monkeypatch.setenv("CACHE_SIZE", "42")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    settings = Settings()
    assert (settings.chroma_timeout_seconds, settings.query_cache_size) == (2.5, 42)
    assert settings.host == "127.0.0.1"
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert Settings().host == "0.0.0.0"


def test_absurd_values_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMA_TIMEOUT_SECONDS", "0")
    with pytest.raises(ValidationError):
        Settings()
    assert "CHROMA_TIMEOUT_SECONDS" in os.environ
