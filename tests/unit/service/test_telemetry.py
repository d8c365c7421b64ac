import json
import logging
import sys
from pathlib import Path

from knowledgebeast_service.telemetry.limits import anonymous_memory_bytes, cpu_limit, memory_limit_bytes
from knowledgebeast_service.telemetry.logs import JsonFormatter


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
    assert cpu_limit(tmp_path) == 1


def test_without_a_limit_the_machine_counts(tmp_path: Path) -> None:
    available = cpu_limit(tmp_path / "absent")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert (cpu_limit(tmp_path), memory_limit_bytes(tmp_path)) == (available, 0)
    assert memory_limit_bytes(tmp_path / "absent") == 0


def test_anonymous_memory_is_read_from_the_status_of_the_process(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name:\tx\nVmRSS:\t  900 kB\nRssAnon:\t  512 kB\n")
    assert anonymous_memory_bytes(tmp_path / "status") == 512 * 1024
    assert anonymous_memory_bytes(tmp_path / "absent") == 0
    assert anonymous_memory_bytes() > 1024**2
