"""A Chroma that needs more memory than its limit: something in its container takes it, each time that it runs."""

import contextlib
import threading
from collections.abc import Generator
from typing import Final

from harness.errors import CommandError
from harness.faults.chroma import CONTAINER, FIND_PROCESSES
from harness.library import Library

MIB: Final = 1024**2

# Chroma is what the kernel ends first, also where it does not end all processes of a container at once: what takes the
# memory is many small processes, for a large one would be the worst whatever its score.
_TAKE = f"""{FIND_PROCESSES}
import time
share = 16 * 2**20
wanted = int(sys.argv[1])
for process in processes:
    pathlib.Path(f"/proc/{{process}}/oom_score_adj").write_text("1000")
if os.fork():
    os._exit(0)
os.setsid()
nothing = os.open(os.devnull, os.O_RDWR)
for number in range(3):
    os.dup2(nothing, number)
def is_running():
    return is_chroma(pathlib.Path(f"/proc/{{processes[0]}}"))
def anonymous(process):
    lines = pathlib.Path(f"/proc/{{process}}/status").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))
taken = sum(map(anonymous, processes))
while taken < wanted and is_running():
    if not os.fork():
        kept = bytearray(os.urandom(2**16)) * (share // 2**16)
        while is_running():
            time.sleep(1)
        os._exit(0)
    taken += share
    time.sleep(0.05)
while is_running():
    time.sleep(1)
"""


@contextlib.contextmanager
def needs(library: Library, megabytes: int) -> Generator[None]:
    """So much is used in Chroma's container whenever it runs, until the block ends."""
    is_over = threading.Event()

    def take_each_time() -> None:
        taken = ("", -1)
        while not is_over.wait(0.5):
            pod = library.chroma.pod()
            run = ("", -1) if pod is None else (pod.uid, pod.restarts)
            is_running = pod is not None and any(one.state.running for one in pod.status.container_statuses)
            if is_running and run != taken:
                with contextlib.suppress(CommandError):  # it does not serve yet, or is ended meanwhile
                    _in_chroma(library, str(megabytes * MIB))
                    taken = run

    thread = threading.Thread(target=take_each_time, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(60)


def _in_chroma(library: Library, *arguments: str) -> None:
    library.cluster.kubectl.python(library.chroma.pod_name, library.namespace, _TAKE, *arguments, container=CONTAINER)
