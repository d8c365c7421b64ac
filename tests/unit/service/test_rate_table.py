import os
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from knowledgebeast_service.api.rate_limit import ForwardingWatch, admit
from knowledgebeast_service.api.rate_table import FILE_BYTES, HEADER_BYTES, SETS, WAYS, RateTable, TableError
from knowledgebeast_service.api.shared_limit import SharedLimit

ASK = """
import sys
from pathlib import Path
from knowledgebeast_service.api.rate_table import RateTable, TableError
table = RateTable(Path(sys.argv[1]))
through = 0
for _ in range(int(sys.argv[2])):
    while True:
        try:
            through += table.check("client", int(sys.argv[3]), 1000.0) == 0
            break
        except TableError:  # the other one is in it: this request would be counted alone
            pass
print(through)
"""


def let_through(path: Path, requests: int, per_minute: int) -> "subprocess.Popen[str]":
    arguments = [sys.executable, "-c", ASK, str(path), str(requests), str(per_minute)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


@pytest.mark.timeout(240)  # interpreters start, on a machine that may be busy
def test_several_processes_at_once_let_through_one_allowance(tmp_path: Path) -> None:
    """No request is lost in a race."""
    asking = [let_through(tmp_path / "table", 400, 500) for _ in range(3)]
    assert sum(int(one.communicate(timeout=200)[0]) for one in asking) == 500


@pytest.fixture
def table(tmp_path: Path) -> RateTable:
    return RateTable(tmp_path / "table")


def test_clients_have_an_allowance_each(table: RateTable) -> None:
    assert [table.check("a", 2, 10.0) for _ in range(3)] == [0, 0, 30]
    assert table.check("b", 2, 10.0) == 0
    assert table.check("a", 2, 40.0) == 0


def test_a_full_set_forgets_the_client_that_was_due_longest_ago(table: RateTable) -> None:
    table.check("first", 1, 0.0)
    for number in range(SETS * WAYS):
        table.check(f"other {number}", 1, 10.0)
    known = sum(table.check(f"other {number}", 1, 10.0) > 0 for number in range(SETS * WAYS))
    assert known > SETS * WAYS * 0.8


@pytest.mark.parametrize("damage", [b"", b"x", b"KBRATE01", b"\xff" * FILE_BYTES, b"x" * (FILE_BYTES + 9)])
def test_a_damaged_file_is_made_anew(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "table"
    path.write_bytes(damage)
    table = RateTable(path)
    assert [table.check("a", 1, 5.0), table.check("a", 1, 5.0)] == [0, 60]
    assert path.stat().st_size == FILE_BYTES


@pytest.mark.parametrize("due", [float("nan"), float("inf"), 1e300, -1e300, 1e6])
def test_a_damaged_entry_heals(tmp_path: Path, due: float) -> None:
    path = tmp_path / "table"
    table = RateTable(path)
    table.check("a", 1, 5.0)
    with path.open("r+b") as file:
        content = file.read()
        offset = next(
            at for at in range(HEADER_BYTES, FILE_BYTES, 16) if struct.unpack_from("<Qd", content, at)[0] != 0
        )
        file.seek(offset + 8)
        file.write(struct.pack("<d", due))
    assert table.check("a", 1, 6.0) == 0
    assert table.check("a", 1, 6.0) == 60


def test_a_lock_that_is_not_given_back_makes_nobody_wait(tmp_path: Path) -> None:
    """The holder is stopped inside its critical section; it could be for minutes."""
    path = tmp_path / "table"
    table = RateTable(path)
    hold = "import fcntl, sys; f = open(sys.argv[1], 'r+b'); fcntl.lockf(f, fcntl.LOCK_EX); print('held', flush=True); "
    holder = subprocess.Popen(
        [sys.executable, "-c", hold + "sys.stdin.read()", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(TableError):
            table.check("a", 1, 5.0)
    finally:
        holder.kill()
        holder.communicate()
    assert table.check("a", 1, 5.0) == 0


def test_a_file_that_was_cut_does_not_kill_the_process(tmp_path: Path) -> None:
    table = RateTable(tmp_path / "table")
    os.truncate(tmp_path / "table", 0)
    with pytest.raises(TableError):
        table.check("a", 1, 5.0)
    assert not table.is_current()


def test_where_there_can_be_no_file_the_process_counts_alone(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    said: list[bool] = []
    limit = SharedLimit(tmp_path / "folder", said.append)
    limit.open()
    assert [limit.check("a", 1) > 0 for _ in range(3)] == [False, True, True]
    assert said == [False]


def test_a_file_that_was_replaced_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("knowledgebeast_service.api.shared_limit.LOOK_SECONDS", 0.0)
    path = tmp_path / "table"
    limit = SharedLimit(path)
    assert [limit.check("a", 1) > 0 for _ in range(2)] == [False, True]
    path.unlink()
    RateTable(path).check("b", 1, time.monotonic())
    assert limit.check("b", 1) > 0


def test_a_due_time_that_no_history_leads_to_counts_as_none() -> None:
    assert admit(due=1e9, per_minute=10, now=5.0)[0] == 0
    assert admit(due=64.0, per_minute=10, now=5.0)[0] > 0


def test_an_untrusted_proxy_is_named_once() -> None:
    said: list[str] = []
    watch = ForwardingWatch(said.append)
    for _ in range(500):
        watch.saw("10.0.0.1")
    for number in range(1000):
        watch.saw(f"10.0.1.{number}")
    assert len(said) == 1
    assert "10.0.0.1" in said[0]
    assert "TRUSTED_PROXIES" in said[0]
