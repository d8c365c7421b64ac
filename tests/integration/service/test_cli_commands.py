"""The command line against a running service and on the data volume."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from knowledgebeast_service.storage.connection import Connection

if TYPE_CHECKING:
    from conftest import Chroma, Service


COMMAND = str(Path(sys.executable).parent / "knowledgebeast")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *arguments], capture_output=True, text=True, timeout=50, check=False, env=os.environ | environment
    )


@pytest.fixture(scope="module")
def service(make_service: Callable[..., Service], chroma: Chroma) -> Service:
    started = make_service("cli", CHROMA_URL=chroma.url)
    started.start()
    return started


def test_ingest_then_query(service: Service, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "backup.md").write_text("To restore a backup, stop the writers first.")
    (tmp_path / "notes" / "cake.md").write_text("A cake needs flour, eggs and sugar.")
    done = run("ingest", str(tmp_path / "notes"), "--project", "notes", "--wait", "--url", service.url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("indexed") == 2
    found = run("query", "how do I recover data", "--project", "notes", "--url", service.url)
    assert "backup" in found.stdout.splitlines()[0]


def test_errors_say_what_to_do(service: Service) -> None:
    absent = run("query", "x", "--project", "absent", "--url", service.url)
    assert absent.returncode == 1
    assert "POST /api/v1/projects" in absent.stderr
    refused = run("query", "x", "--project", "p", "--url", "http://127.0.0.1:9")
    assert "knowledgebeast serve" in refused.stderr
    bad = run("serve", "--chroma-timeout-seconds", "-1")
    assert bad.returncode == 2
    assert "chroma_timeout_seconds" in bad.stderr


@pytest.mark.parametrize("command", [["serve"], ["ingest"], ["query"], ["maintain", "check"], ["build-model"]])
def test_every_command_has_help_with_an_example(command: list[str]) -> None:
    shown = run(*command, "--help")
    assert shown.returncode == 0
    assert "Example: knowledgebeast" in shown.stdout


def test_check_passes_beside_a_running_service_and_answers_twice_alike(service: Service, tmp_path: Path) -> None:
    service.ingest("checked", {"a": "Some text."}, wait=False)
    data = service.environment["DATA_DIR"]
    log = tmp_path / "termination-log"
    log.touch()
    first = run("maintain", "check", "--attempt-id", "a1", "--data-dir", data, TERMINATION_LOG=str(log))
    assert first.returncode == 0, first.stdout + first.stderr
    result = json.loads(first.stdout)
    assert (result["task"], result["attempt"], result["ok"]) == ("check", "a1", True)
    assert result["measured"]["documents_rows"] >= 1
    assert json.loads(log.read_text()) == result
    assert json.loads((Path(data) / "maintenance" / "check-a1.json").read_text()) == result
    assert run("maintain", "check", "--attempt-id", "a1", "--data-dir", data).stdout == first.stdout


def test_check_finds_damage_and_refuses_what_is_not_there(service: Service, tmp_path: Path) -> None:
    source = Connection(Path(service.environment["DATA_DIR"]) / "knowledgebeast.db")
    copy = tmp_path / "knowledgebeast.db"
    source.execute("VACUUM INTO ?", (str(copy),))
    source.close()
    damaged = Connection(copy)
    damaged.execute("PRAGMA foreign_keys = OFF; DELETE FROM documents WHERE id = (SELECT max(id) FROM documents)")
    damaged.close()
    found = run("maintain", "check", "--attempt-id", "b", "--data-dir", str(tmp_path))
    assert found.returncode == 1
    assert "refers to a missing row" in str(json.loads(found.stdout)["measured"]["problems"])
    absent = run("maintain", "check", "--attempt-id", "c", "--data-dir", str(tmp_path / "nowhere"))
    assert absent.returncode == 1
    assert "there is no database" in json.loads(absent.stdout)["refused"]
    assert run("maintain", "check", "--attempt-id", "../x", "--data-dir", str(tmp_path)).returncode == 2
