"""Prometheus' own checker, for tests of rules and queries."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def run_promtool(*arguments: str | Path, timeout: float = 150) -> subprocess.CompletedProcess[str]:
    """Of the PATH, or as it was built with the local cluster; the test is skipped where there is none."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "knowledgebeast" / "artifacts"
    built = sorted(cache.glob("prometheus-*/promtool"))
    tool = shutil.which("promtool") or (str(built[-1]) if built else None)
    if tool is None:
        pytest.skip("no promtool: install Prometheus, or build the local cluster once")
    return subprocess.run([tool, *arguments], capture_output=True, text=True, timeout=timeout, check=False)
