"""One demo or test run at a time on a cluster: they install the operator, and one would take it away from the other."""

import contextlib
import fcntl
import hashlib
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path

from harness.cluster import Cluster
from harness.wait import wait_for

WAIT_SECONDS = 75 * 60  # the longest that a test run may take


def lock_file(kubeconfig: Path) -> Path:
    """The same for everybody on this machine who uses that kubeconfig."""
    digest = hashlib.sha256(str(kubeconfig.resolve()).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"knowledgebeast-{digest}.lock"


@contextlib.contextmanager
def exclusive(cluster: Cluster, say: Callable[[str], None], *, timeout: float = WAIT_SECONDS) -> Generator[None]:
    """Waits until nobody else on this machine demonstrates or tests on the cluster; `say` is told of the waiting.

    The lock is the kernel's, so that a killed run leaves none behind.

    Raises:
        NotMetError: the other one did not end in time.
    """
    with lock_file(cluster.kubectl.kubeconfig).open("w") as file:
        if not _lock(file.fileno()):
            say("another demo or test run on this machine uses the cluster; waiting until it ends")
            wait_for("the other run to end", lambda: _lock(file.fileno()), timeout=timeout, interval=1)
        yield


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
