"""A Chroma that answers, and slowly: its process is stopped and continued all the time, as by a starved machine."""

import contextlib
import threading
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
    pod = library.chroma.ready_pod()
    _in_chroma(library, _BRAKE, str(stopped), str(running))
    try:
        yield pod
    finally:
        with contextlib.suppress(CommandError):  # the pod with the brake in it is gone
            _in_chroma(library, _RELEASE)


@contextlib.contextmanager
def always_slowed(library: Library, *, stopped: float = 0.7, running: float = 0.15) -> Generator[None]:
    """The same for every pod of Chroma that there is while the block runs, as on a disk that is too slow."""
    is_over = threading.Event()

    def brake_each() -> None:
        braked = ""
        while not is_over.wait(1):
            pod = library.chroma.pod()
            if pod is not None and pod.is_ready and pod.uid != braked:
                with contextlib.suppress(CommandError):  # it goes just now
                    _in_chroma(library, _BRAKE, str(stopped), str(running))
                    braked = pod.uid

    thread = threading.Thread(target=brake_each, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(60)
        with contextlib.suppress(CommandError):
            _in_chroma(library, _RELEASE)


def _in_chroma(library: Library, code: str, *arguments: str) -> None:
    library.cluster.kubectl.python(library.chroma.pod_name, library.namespace, code, *arguments, container=CONTAINER)
