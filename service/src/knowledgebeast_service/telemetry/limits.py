"""What this process may use, as its cgroup says; the node's figures mislead inside a container."""

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
UNLIMITED = 2**60


def cpu_limit(cgroup: Path = CGROUP) -> int:
    """Whole CPUs to plan threads for, at least 1 (cgroup v2 `cpu.max`, else the CPUs this process may run on)."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return available
    return available if quota == "max" else max(1, min(available, round(int(quota) / int(period))))


def cpu_limit_cores(cgroup: Path = CGROUP) -> float:
    """Cores that the cgroup allows, as they were set (cgroup v2 `cpu.max`); 0 = no limit is set."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return 0.0
    return 0.0 if quota == "max" else int(quota) / int(period)


def memory_limit_bytes(cgroup: Path = CGROUP) -> int:
    """Bytes of the memory limit; 0 = no limit is set. Nodes with cgroup v1 write a huge number for that."""
    for file in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            content = (cgroup / file).read_text().strip()
        except OSError:
            continue
        return 0 if content == "max" or int(content) >= UNLIMITED else int(content)
    return 0


def anonymous_memory_bytes(status: Path = Path("/proc/self/status")) -> int:
    """Anonymous memory of this process: what a limit kills for. Mapped files and page cache are not in it."""
    try:
        for line in status.read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    except OSError:
        return 0
    return 0
