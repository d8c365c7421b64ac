"""The generator as a running program beside a scenario."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import CommandError
from harness.load.generator import Plan
from harness.load.records import Record, read_records
from harness.wait import wait_for

PACKAGES = Path(__file__).resolve().parent.parent.parent
"""The folder that holds the package `harness`."""


@dataclass(frozen=True)
class RunningLoad:
    """Load that goes on until it is stopped or its plan ends."""

    process: subprocess.Popen[str]
    file: Path
    plan: Plan

    def records(self) -> list[Record]:
        """What has been answered so far."""
        return read_records(self.file)

    def stop(self) -> list[Record]:
        """Ends the load, waits for the answers under way, and returns all records.

        Raises:
            CommandError: the generator itself failed, or had ended before its time: then the scenario was not covered.
        """
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        elif self.process.returncode == 0:
            raise CommandError(f"the load ended after its {self.plan.seconds:.0f} s, before the scenario; plan more")
        _, errors = self.process.communicate(timeout=self.plan.timeout_seconds + 20)
        if self.process.returncode != 0:
            raise CommandError(f"the load generator failed: {errors.strip()}")
        return self.records()


@contextlib.contextmanager
def running_load(plan: Plan, file: Path, *, seed: int = 1) -> Generator[RunningLoad]:
    """Starts the load, waits for its first answer, and makes sure that it is gone at the end."""
    argv = [
        sys.executable, "-m", "harness.load", "--url", plan.url, "--project", plan.project,
        "--rate", str(plan.rate_per_second), "--seconds", str(plan.seconds), "--timeout", str(plan.timeout_seconds),
        "--seed", str(seed), "--out", str(file),
        "--profile", ",".join(map(str, plan.profile)), "--step", str(plan.step_seconds),
        *(("--distinct", str(plan.distinct)) if plan.distinct is not None else ()),
    ]  # fmt: skip
    file.unlink(missing_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(PACKAGES)}
    with subprocess.Popen(
        argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        load = RunningLoad(process, file, plan)
        try:
            wait_for("the first answer to the load", lambda: _first(load), timeout=plan.timeout_seconds + 20)
            yield load
        finally:
            if process.poll() is None:
                process.kill()


def _first(load: RunningLoad) -> bool:
    if load.process.poll() not in (None, 0):
        _, errors = load.process.communicate()
        raise CommandError(f"the load generator failed: {errors.strip()}")
    return bool(load.records())
