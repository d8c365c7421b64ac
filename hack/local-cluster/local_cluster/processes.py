"""Reading /proc: who is the holder, who is process 1 inside, and which processes belong to the cluster."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from local_cluster import network
from local_cluster.paths import State

PROC = Path("/proc")


@dataclass(frozen=True)
class Holder:
    """The process that keeps the namespaces alive; `start_ticks` tells it from a later one with the same number."""

    pid: int
    start_ticks: int


def start_ticks(stat: str) -> int:
    """Field 22 of /proc/PID/stat; the name in field 2 may hold spaces and parentheses."""
    return int(stat.rpartition(")")[2].split()[19])


def describe(pid: int) -> Holder | None:
    """None if there is no such process, or only its remains (a zombie)."""
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if stat.rpartition(")")[2].split()[0] == "Z":
        return None
    return Holder(pid, start_ticks(stat))


def record_holder(state: State, pid: int) -> None:
    holder = describe(pid)
    if holder is not None:
        state.holder.write_text(json.dumps({"pid": holder.pid, "start_ticks": holder.start_ticks}))


def running_holder(state: State) -> Holder | None:
    """The recorded holder, if that very process still runs."""
    try:
        record = json.loads(state.holder.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    recorded = Holder(record["pid"], record["start_ticks"])
    return recorded if describe(recorded.pid) == recorded else None


def children(pid: int) -> list[int]:
    try:
        return [int(word) for word in (PROC / f"{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def process_one(state: State) -> int | None:
    """Process 1 of the namespaces, by its number on the host."""
    holder = running_holder(state)
    return next(iter(children(holder.pid)), None) if holder else None


def wait_for_process_one(state: State, holder: int, timeout_seconds: float = 10.0) -> bool:
    """Whether process 1 appeared; not if the holder ended before."""
    deadline = time.monotonic() + timeout_seconds
    while process_one(state) is None:
        if describe(holder) is None or time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def number_inside(pid: int) -> int | None:
    """The process's own number in its innermost namespace."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in (PROC / str(pid) / "status").read_text().splitlines():
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
    return None


def belonging(state: State) -> list[int]:
    """Host numbers of all processes of the cluster, whether recorded or not: those in its network namespace, and the
    supervisor of this state folder. (Containers have network namespaces of their own, but die with process 1.)
    """
    marker = {str(state.supervisor), str(state.plan)}
    return [pid for pid, words, is_inside in _candidates() if is_inside or marker <= words]


def other_state(state: State) -> str:
    """The state folder of a running cluster that is not this one ("" if none): it has the same names and addresses."""
    suffix = str(state.supervisor.relative_to(state.root))
    for _, words, is_inside in _candidates():
        for word in words:
            if is_inside and word.endswith(f"/{suffix}") and word != str(state.supervisor):
                return word.removesuffix(f"/{suffix}")
    return ""


def _candidates() -> Iterator[tuple[int, set[str], bool]]:
    """Every other process: its number, its command line, and whether it is in the cluster's network namespace."""
    inode = network.NAMESPACE_FILE.stat().st_ino if network.namespace_exists() else -1
    for folder in PROC.iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid() or describe(int(folder.name)) is None:
            continue
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            words = set((folder / "cmdline").read_bytes().decode(errors="replace").split("\0"))
            yield int(folder.name), words, (folder / "ns/net").stat().st_ino == inode


def kill_all(state: State, timeout_seconds: float = 10.0) -> None:
    """Kills every process of the cluster and waits until they are gone."""
    deadline = time.monotonic() + timeout_seconds
    while (pids := belonging(state)) and time.monotonic() < deadline:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def wait_gone(pid: int, timeout_seconds: float) -> bool:
    """Whether the process ended within the time."""
    deadline = time.monotonic() + timeout_seconds
    while describe(pid) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
