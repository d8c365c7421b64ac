import json
import logging
import socket
import sys
from pathlib import Path

import pytest

from knowledgebeast_service.telemetry import logs
from knowledgebeast_service.telemetry.limits import (
    anonymous_memory_bytes,
    cpu_limit,
    cpu_limit_cores,
    memory_limit_bytes,
)
from knowledgebeast_service.telemetry.logs import JsonFormatter, configure_logging


def formatted(**extra: object) -> dict[str, object]:
    record = logging.LogRecord("name", logging.WARNING, "file", 1, "said %s", ("so",), None)
    record.__dict__.update(extra)
    line = JsonFormatter().format(record)
    assert "\n" not in line
    return json.loads(line)


def test_a_record_is_one_object_with_only_the_agreed_extras() -> None:
    entry = formatted(status=200, path="/x", secret="hunter2")
    assert (entry["level"], entry["message"], entry["status"], entry["path"]) == ("warning", "said so", 200, "/x")
    assert "secret" not in entry


def test_an_exception_is_named_and_text_that_is_no_unicode_survives() -> None:
    try:
        raise ValueError("bad \ud800 text")
    except ValueError:
        entry = formatted(exc_info=sys.exc_info())
    assert entry["error_type"] == "ValueError"
    assert "Traceback" in str(entry["traceback"])


def test_the_quota_of_the_cgroup_counts_not_the_node(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    (tmp_path / "memory.max").write_text("2147483648\n")
    assert (cpu_limit(tmp_path), memory_limit_bytes(tmp_path)) == (1, 2 * 1024**3)
    (tmp_path / "cpu.max").write_text("20000 100000\n")
    assert (cpu_limit(tmp_path), cpu_limit_cores(tmp_path)) == (1, 0.2)


def test_without_a_limit_the_machine_counts(tmp_path: Path) -> None:
    available = cpu_limit(tmp_path / "absent")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert (cpu_limit(tmp_path), memory_limit_bytes(tmp_path)) == (available, 0)
    assert cpu_limit_cores(tmp_path) == cpu_limit_cores(tmp_path / "absent") == 0
    assert memory_limit_bytes(tmp_path / "absent") == 0


@pytest.mark.parametrize(("content", "limit"), [("805306368\n", 768 * 1024**2), ("9223372036854771712\n", 0)])
def test_nodes_with_the_first_version_of_cgroups_have_limits_too(tmp_path: Path, content: str, limit: int) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text(content)
    assert memory_limit_bytes(tmp_path) == limit


def test_anonymous_memory_is_read_from_the_status_of_the_process(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name:\tx\nVmRSS:\t  900 kB\nRssAnon:\t  512 kB\n")
    assert anonymous_memory_bytes(tmp_path / "status") == 512 * 1024
    assert anonymous_memory_bytes(tmp_path / "absent") == 0
    assert anonymous_memory_bytes() > 1024**2


def test_log_files_are_json_rotate_and_belong_to_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "FILE_BYTES", 2000)
    configure_logging("info", tmp_path / "logs")
    try:
        for number in range(200):
            logging.getLogger(logs.ROOT).info("line %d", number)
    finally:
        configure_logging("info")
    files = sorted((tmp_path / "logs").iterdir())
    assert len(files) == logs.FILES == 10
    assert all(file.name.startswith(f"knowledgebeast-{socket.gethostname()}.log") for file in files)
    assert all(file.stat().st_size <= 2000 for file in files)
    newest = json.loads((files[0].read_text()).splitlines()[-1])
    assert newest["message"] == "line 199"


def test_a_folder_that_cannot_be_written_costs_the_files_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    configure_logging("info", tmp_path / "file" / "logs")
    logging.getLogger(logs.ROOT).info("still said")
    configure_logging("info")
    assert "no log files" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_adds_no_traceback_for_each_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", tmp_path)
    handler = logging.getLogger(logs.ROOT).handlers[1]
    assert isinstance(handler, logs.LogFile)
    assert handler.stream is not None
    handler.stream.close()
    handler.stream = Path("/dev/full").open("w")  # noqa: SIM115  (closed by the handler)
    logging.getLogger(logs.ROOT).info("said once")
    configure_logging("info")
    shown = capsys.readouterr().err
    assert shown.count("said once") == 1
    assert "Traceback" not in shown
