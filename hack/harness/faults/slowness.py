"""A Chroma that answers, and slowly: its process is stopped and continued all the time, as by a starved machine."""

import contextlib
from collections.abc import Generator

from harness.errors import CommandError
from harness.faults.chroma import CONTAINER, FIND_PROCESSES
from harness.library import Library
from harness.objects import Pod

_BRAKE = f"""{FIND_PROCESSES}
import signal, time
stopped, running = (float(word) for word in sys.argv[1:])
if os.fork():
    os._exit(0)
os.setsid()
nothing = os.open(os.devnull, os.O_RDWR)
for number in range(3):
    os.dup2(nothing, number)
def release(*_):
    for process in processes:
        os.kill(process, signal.SIGCONT)
    os._exit(0)
signal.signal(signal.SIGTERM, release)
while True:
    try:
        for pause, number in ((stopped, signal.SIGSTOP), (running, signal.SIGCONT)):
            for process in processes:
                os.kill(process, number)
            time.sleep(pause)
    except ProcessLookupError:
        break
"""

_RELEASE = """
import os, pathlib, signal
for folder in pathlib.Path("/proc").iterdir():
    try:
        words = (folder / "cmdline").read_bytes().split(b"\\0") if folder.name.isdigit() else []
    except OSError:
        continue
    if words and int(folder.name) != os.getpid() and any(b"SIGSTOP" in word and b"SIGCONT" in word for word in words):
        os.kill(int(folder.name), signal.SIGTERM)
"""


@contextlib.contextmanager
def slowed(library: Library, *, stopped: float = 0.7, running: float = 0.15) -> Generator[Pod]:
    """Chroma stands still for `stopped` of every `stopped + running` seconds. It ends with the pod, or with the block.

    Gives the pod that was there.
    """
    chroma, kubectl = library.chroma, library.cluster.kubectl
    pod = chroma.ready_pod()
    kubectl.python(pod.name, library.namespace, _BRAKE, str(stopped), str(running), container=CONTAINER)
    try:
        yield pod
    finally:
        with contextlib.suppress(CommandError):  # the pod with the brake in it is gone
            kubectl.python(pod.name, library.namespace, _RELEASE, container=CONTAINER)
