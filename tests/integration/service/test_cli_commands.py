"""The command line against a running service and on the data volume."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from knowledgebeast_service.storage.connection import Connection

if TYPE_CHECKING:
    from conftest import Chroma, Service


COMMAND = str(Path(sys.executable).parent / "knowledgebeast")
FILES = 900  # more than are sent before a person can press Ctrl-C


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *arguments], capture_output=True, text=True, timeout=200, check=False, env=os.environ | environment
    )


@pytest.fixture(scope="module")
def service(make_service: Callable[..., Service], chroma: Chroma) -> Service:
    started = make_service("cli", CHROMA_URL=chroma.url)
    started.start()
    return started


@contextmanager
def interruptible(*arguments: str) -> Generator[subprocess.Popen[str]]:
    """A command that Ctrl-C reaches: a shell's background job, as which these tests may run, ignores SIGINT."""
    running = subprocess.Popen(
        [COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with running:
        try:
            yield running
        finally:
            running.kill()


def test_ingest_then_query(service: Service, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "backup.md").write_text("To restore a backup, stop the writers first.")
    (tmp_path / "notes" / "cake.md").write_text("A cake needs flour, eggs and sugar.")
    done = run("ingest", str(tmp_path / "notes"), "--project", "notes", "--wait", "--url", service.url)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 files; 2 stored, 0 unchanged, 0 rejected, 2 searchable by vector" in done.stdout
    found = run("query", "how do I recover data", "--project", "notes", "--url", service.url)
    assert "backup" in found.stdout.splitlines()[0]


def test_a_stopped_ingestion_goes_on_where_it_was(service: Service, tmp_path: Path, until: Callable[..., None]) -> None:
    for number in range(FILES):
        (tmp_path / f"{number:04}.md").write_text(f"# Note {number}\n\nIt speaks of subject {number % 7}.")
    command = ["ingest", str(tmp_path), "--project", "stopped", "--jobs", "1", "--url", service.url]
    with interruptible(*command) as stopped:
        until(lambda: service.get("/api/v1/projects/stopped").json().get("documents", 0) > 0, "some files are stored")
        stopped.send_signal(signal.SIGINT)
        output, hint = stopped.communicate(timeout=120)
    assert stopped.returncode == 130, output + hint
    assert "Run the same command again" in hint
    stored = service.get("/api/v1/projects/stopped").json()["documents"]
    assert f"Stopped: {stored} of {FILES} files; {stored} stored" in output
    again = run(*command)
    assert again.returncode == 0, again.stderr
    assert f"Done: {FILES} of {FILES} files; {FILES - stored} stored, {stored} unchanged, 0 rejected." in again.stdout


def test_rejected_files_are_named_and_make_the_status_1(service: Service, tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text("A good text.")
    (tmp_path / "bad.bin").write_bytes(b"\x00\x01")
    done = run("ingest", str(tmp_path), "--project", "mixed", "--url", service.url)
    assert done.returncode == 1
    assert "2 of 2 files; 1 stored, 0 unchanged, 1 rejected" in done.stdout
    assert "bad.bin" in done.stderr
    assert run("ingest", str(tmp_path / "none.txt"), "--project", "p").returncode == 2


def test_errors_say_what_to_do(service: Service) -> None:
    absent = run("query", "x", "--project", "absent", "--url", service.url)
    assert absent.returncode == 1
    assert "POST /api/v1/projects" in absent.stderr
    refused = run("query", "x", "--project", "p", "--url", "http://127.0.0.1:9")
    assert "knowledgebeast serve" in refused.stderr
    bad = run("serve", "--chroma-timeout-seconds", "-1")
    assert bad.returncode == 2
    assert "chroma_timeout_seconds" in bad.stderr


@pytest.mark.parametrize(
    "command",
    [["serve"], ["ingest"], ["query"], ["maintain", "check"], ["build-model"], ["eval"], ["bench"], ["projects"]],
)
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
    assert "is the volume mounted?" in json.loads(absent.stdout)["refused"]
    assert run("maintain", "check", "--attempt-id", "../x", "--data-dir", str(tmp_path)).returncode == 2


@pytest.fixture(scope="module")
def titled(service: Service) -> Service:
    documents = [
        {"id": f"n{number}", "title": f"Note {number} on tides", "text": f"The moon \x1b[31m causes the tide {number}."}
        for number in range(12)
    ]
    httpx.post(f"{service.url}/api/v1/ingest", json={"project": "titled", "documents": documents}).raise_for_status()
    return service


def test_query_pages_and_its_status_tells_whether_something_was_found(titled: Service) -> None:
    arguments = ("query", "tides of the moon", "-p", "titled", "--mode", "keyword", "--url", titled.url)
    first, second = run(*arguments), run(*arguments, "--offset", "5")
    assert (first.returncode, "more with --offset 5" in first.stderr) == (0, True)
    assert first.stdout.startswith(" 1  ")
    assert second.stdout.startswith(" 6  ")
    assert "\x1b" not in first.stdout  # no colours off a terminal, and none that a document brings along
    nothing = run("query", "zebra", "-p", "titled", "--mode", "keyword", "--url", titled.url)
    assert (nothing.returncode, nothing.stdout) == (3, "")
    found = json.loads(run(*arguments, "--json").stdout)
    assert len(found["results"]) == 5


def test_projects_are_listed_with_their_counts(titled: Service) -> None:
    shown = run("projects", "--url", titled.url)
    assert ["titled", "12", "12"] in [line.split() for line in shown.stdout.splitlines()]
    listed = json.loads(run("projects", "--json", "--url", titled.url).stdout)
    assert {"name": "titled", "documents": 12}.items() <= next(one for one in listed if one["name"] == "titled").items()


def test_bench_reports_what_it_sent(titled: Service) -> None:
    arguments = ("bench", "-p", "titled", "--mode", "keyword", "--rate", "20", "--seconds", "1", "--url", titled.url)
    found = json.loads(run(*arguments, "--json").stdout)
    assert (found["requests"], found["answered"], found["failures"]) == (20, 20, {})
    assert 0 < found["milliseconds"]["P50"] <= found["milliseconds"]["P99"] <= found["milliseconds"]["max"]
    absent = run(*arguments[:2], "absent", *arguments[3:])
    assert absent.returncode == 1


def test_ctrl_c_ends_a_command_without_a_traceback(titled: Service, until: Callable[..., None]) -> None:
    arguments = ["bench", "-p", "titled", "--seconds", "60", "--url", titled.url]
    before = titled.metric("kb_query_cache_misses_total")
    with interruptible(*arguments) as running:
        until(lambda: titled.metric("kb_query_cache_misses_total") > before, "the load has begun")
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=120)
    assert running.returncode == 130
    assert "Traceback" not in said


def test_serve_alone_tells_where_things_are(tmp_path: Path, model_dir: Path, until: Callable[..., None]) -> None:
    """From an empty folder, with no setting but the port and the model."""
    environment = os.environ | {"MODEL_DIR": str(model_dir), "PORT": "0"}
    with (tmp_path / "log").open("w") as log:
        running = subprocess.Popen([COMMAND, "serve"], stdout=log, stderr=log, cwd=tmp_path, env=environment)
    try:
        until(lambda: "Ctrl-C stops it" in (tmp_path / "log").read_text(), "the service tells that it runs")
        said = (tmp_path / "log").read_text()
        page = re.search(r"search page +(\S+)", said)
        assert page is not None
        assert httpx.get(page.group(1)).status_code == 200
        assert f"--url {page.group(1).removesuffix('/ui')}" in said
        assert str(tmp_path / "data") in said
    finally:
        running.send_signal(signal.SIGINT)
        assert running.wait(60) in (0, 130)
