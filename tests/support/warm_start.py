"""Starts of `knowledgebeast serve` that skip the seconds of importing: one process imports, and each start is its fork.

What runs in the fork is the command itself, in a process of its own that can be killed. Run as a program, it reads
orders on standard input, one JSON object a line, and answers each with the pid.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

GONE_SECONDS = 15.0


class WarmStarter:
    """The process that imports; to be closed, which ends every service that it has started."""

    def __init__(self) -> None:
        self._running: set[int] = set()
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def serve(self, log: Path, environment: Mapping[str, str]) -> int:
        """Start a service; returns its pid."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"log": str(log), "environment": dict(environment)}) + "\n")
        self._process.stdin.flush()
        pid = int(self._process.stdout.readline())
        self._running.add(pid)
        return pid

    def kill(self, pid: int) -> None:
        """SIGKILL, and until the process is gone: its locks and its port are free then."""
        self._running.discard(pid)
        _kill_and_wait(pid)

    def close(self) -> None:
        for pid in tuple(self._running):
            self.kill(pid)
        self._process.kill()
        self._process.communicate()


def _kill_and_wait(pid: int) -> None:
    deadline = time.monotonic() + GONE_SECONDS
    try:
        os.kill(pid, signal.SIGKILL)
        while time.monotonic() < deadline:
            os.kill(pid, 0)
            time.sleep(0.001)
    except ProcessLookupError:
        return
    raise AssertionError(f"process {pid} is still there {GONE_SECONDS:g} s after SIGKILL")


def main() -> None:
    for module in ("knowledgebeast_service.cli", "knowledgebeast_service.server"):
        importlib.import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the killed
    for line in sys.stdin:
        order: dict[str, Any] = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become_service(Path(order["log"]), order["environment"])
        print(pid, flush=True)


def _become_service(log: Path, environment: Mapping[str, str]) -> None:
    from knowledgebeast_service.cli import main as knowledgebeast

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.update(environment)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (file, 1), (file, 2)):
        os.dup2(source, target)
    sys.argv = ["knowledgebeast", "serve"]
    status = 1
    try:
        knowledgebeast()
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else 1
    finally:
        os._exit(status)


if __name__ == "__main__":
    main()
