"""Compiling the search kernel where its result cannot be kept."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(300)  # seconds of compiling, minutes on a busy machine
def test_the_kernel_starts_where_nothing_can_be_written(tmp_path: Path) -> None:
    """As in a container with a read-only root file system, without a cache folder of its own."""
    (tmp_path / "file").touch()
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "file" / "cache"), "HOME": "/proc/nowhere"}
    program = (
        "from knowledgebeast_service.search import kernel\n"
        "kernel.start_compiling()\n"
        "import threading\n"
        "for thread in threading.enumerate():\n"
        "    if thread is not threading.main_thread(): thread.join()\n"
        "assert kernel.compiled() is not None\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr
