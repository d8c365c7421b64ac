"""Running commands inside the cluster's namespaces."""

import subprocess
from collections.abc import Sequence
from typing import IO

from local_cluster import processes
from local_cluster.errors import ClusterError
from local_cluster.host import SYSTEM_PATH
from local_cluster.paths import State


def argv(state: State, command: Sequence[str]) -> list[str]:
    """The command line that enters the namespaces (but keeps the working folder). Raises ClusterError when down."""
    pid = processes.process_one(state)
    if pid is None:
        raise ClusterError("the cluster is not running", "Start it: make cluster-up")
    return [
        "nsenter", f"--target={pid}", "--net", "--mount", "--pid", "--wd=.", "env", f"PATH={state.bin}:{SYSTEM_PATH}",
        *command,
    ]  # fmt: skip


def run(
    state: State, command: Sequence[str], *, check: bool = True, stdin: IO[bytes] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs the command inside, output captured. Raises ClusterError when it fails and `check` is set."""
    done = subprocess.run(
        argv(state, command), stdin=stdin or subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if check and done.returncode != 0:
        raise ClusterError(f"`{' '.join(command)}` failed inside the cluster: {done.stderr.strip()[-2000:]}")
    return done
