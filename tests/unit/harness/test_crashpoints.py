"""The shim that kills at a call: it sees what Python and SQLite do to files, and does what it is told."""

import errno
import os
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from crashpoints.runner import Call, CrashRunner, Mode, build_shim
from knowledgebeast_service.storage.connection import Connection


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Generator[CrashRunner]:
    with CrashRunner(build_shim(tmp_path_factory.mktemp("shim")), ["crashpoint_targets"]) as runner:
        yield runner


def names(log: tuple[Call, ...]) -> list[str]:
    return [call.name for call in log]


def test_sees_every_change_of_a_folder_in_order(runner: CrashRunner, tmp_path: Path) -> None:
    outcome = runner.run("crashpoint_targets:all_kinds", [tmp_path], tmp_path)
    assert outcome.raised is None, outcome.traceback
    assert names(outcome.log) == [
        "mkdir", "create", "write", "fsync", "rename", "fsync", "link", "ftruncate", "create", "sendfile64",
        "sendfile64", "unlink", "unlink", "truncate", "unlink", "symlink", "unlink", "chmod", "rmdir",
    ]  # fmt: skip


def test_does_not_see_what_happens_elsewhere(runner: CrashRunner, tmp_path: Path) -> None:
    watched = tmp_path / "watched"
    watched.mkdir()
    assert runner.run("crashpoint_targets:all_kinds", [tmp_path], watched).calls == 0


def test_sees_what_sqlite_does(runner: CrashRunner, tmp_path: Path) -> None:
    log = runner.run("crashpoint_targets:insert_rows", [tmp_path / "some.db", 3], tmp_path).log
    seen = {(call.name, Path(call.path).name) for call in log}
    assert seen >= {
        ("create", "some.db"),
        ("create", "some.db-wal"),
        ("pwrite64", "some.db-wal"),
        ("fsync", "some.db-wal"),
        ("pwrite64", "some.db"),
        ("fsync", "some.db"),
        ("unlink", "some.db-wal"),
    }


def test_a_kill_at_every_call_leaves_whole_transactions(runner: CrashRunner, tmp_path: Path) -> None:
    calls = runner.run("crashpoint_targets:insert_rows", [tmp_path / "whole.db", 3], tmp_path).calls
    counts: set[int] = set()
    started = time.monotonic()
    for mode in (Mode.BEFORE, Mode.TORN):
        for at in range(1, calls + 1):
            path = tmp_path / f"{mode.name}-{at}.db"
            outcome = runner.run("crashpoint_targets:insert_rows", [path, 3], tmp_path, mode=mode, at=at)
            assert outcome.is_killed
            assert outcome.calls == at
            connection = Connection(path)
            assert connection.row("PRAGMA integrity_check") == ("ok",)
            if connection.row("SELECT 1 FROM sqlite_schema"):
                counts.add(connection.number("SELECT count(*) FROM t"))
            connection.close()
    assert counts == {0, 100, 200, 300}
    assert (time.monotonic() - started) / (2 * calls) < 0.5  # milliseconds on an idle machine


def test_a_torn_write_stores_half(runner: CrashRunner, tmp_path: Path) -> None:
    outcome = runner.run("crashpoint_targets:write_text", [tmp_path / "torn", "abcdef"], tmp_path, mode=Mode.TORN, at=2)
    assert outcome.is_killed
    assert (tmp_path / "torn").read_text() == "abc"


def test_one_call_fails_or_all_from_it_on(runner: CrashRunner, tmp_path: Path) -> None:
    arguments = [tmp_path / "full", "abc", 3]
    once = runner.run("crashpoint_targets:write_patiently", arguments, tmp_path, mode=Mode.FAIL, at=2)
    assert once.result == ["failed", "written"]
    stays = runner.run("crashpoint_targets:write_patiently", arguments, tmp_path, mode=Mode.FAIL_ON, at=2)
    assert stays.result == ["failed"] * 3
    denied = runner.run(
        "crashpoint_targets:write_text", [tmp_path / "denied", "a"], tmp_path, mode=Mode.FAIL, at=1, error=errno.EACCES
    )
    assert denied.raised is not None
    assert os.strerror(errno.EACCES) in denied.raised
