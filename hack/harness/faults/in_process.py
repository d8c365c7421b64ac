"""An agent that somebody has loaded into the service's own process, as those for traces and metrics are.

They come into a Python process by a `sitecustomize` on the PYTHONPATH of the pod.
"""

import contextlib
from collections.abc import Generator
from datetime import UTC, datetime
from typing import Final

from harness.library import Library
from harness.objects import Deployment, Pod
from harness.wait import wait_for

ROLLED_OUT_SECONDS: Final = 180

AGED_SECONDS: Final = 150
"""So old is a pod, nearly, when the operator no longer takes it for one that loads its model."""

WAIT_SECONDS: Final = 0.2
"""For the collector. One pod still answers its half of ten searches a second, one after the other."""

_SLOW_EXPORT = f"""
import pathlib, sys, threading, time
AWAY = pathlib.Path("/tmp/collector-is-away")

def exporting(run):
    def timed(*arguments, **named):
        result = run(*arguments, **named)
        if AWAY.exists():
            time.sleep({WAIT_SECONDS})
        return result
    return timed

def instrument():
    while not hasattr(sys.modules.get("onnxruntime"), "InferenceSession"):
        time.sleep(0.05)
    session = sys.modules["onnxruntime"].InferenceSession
    session.run = exporting(session.run)

if b"serve" in pathlib.Path("/proc/self/cmdline").read_bytes().split(b"\\0"):
    threading.Thread(target=instrument, daemon=True).start()
"""

WRITE_FILE: Final = """
import pathlib, sys
path = pathlib.Path(sys.argv[1])
path.parent.mkdir(exist_ok=True)
path.write_text(sys.argv[2])
"""
"""Python to be run in a pod, with the file's path and its text."""

_REMOVE = """
import shutil
shutil.rmtree("/data/agent", ignore_errors=True)
"""


@contextlib.contextmanager
def loaded(library: Library, code: str) -> Generator[None]:
    """The code is loaded into the process of every service pod, and of those that come while the block runs."""
    _in_a_pod(library, WRITE_FILE, "/data/agent/sitecustomize.py", code)
    before = {pod.uid for pod in library.service_pods()}
    path = {"name": "PYTHONPATH", "value": "/data/agent:/opt/knowledgebeast/app"}
    library.patch({"spec": {"service": {"podTemplate": {"env": [path]}}}})
    wait_for("pods with the agent", lambda: _are_new(library, before), timeout=ROLLED_OUT_SECONDS,
             explain=library.explain)  # fmt: skip
    try:
        yield
    finally:
        _in_a_pod(library, _REMOVE)


@contextlib.contextmanager
def slow_export(library: Library) -> Generator[Pod]:
    """In one pod each run of the model is reported to a collector that does not answer. Gives that pod.

    The agent of a new pod has found out, and reports nothing.
    """
    with loaded(library, _SLOW_EXPORT):
        wait_for("pods that have loaded their model", lambda: _have_aged(library), timeout=AGED_SECONDS + 30)
        slow = min(_ready(library), key=lambda pod: pod.name)
        library.cluster.kubectl.python(slow.name, library.namespace, WRITE_FILE, "/tmp/collector-is-away", "")
        yield slow


def _ready(library: Library) -> list[Pod]:
    return [pod for pod in library.service_pods() if pod.is_ready]


def _are_new(library: Library, before: set[str]) -> bool:
    deployment = library.cluster.api.get(Deployment, library.name, library.namespace)
    pods = library.service_pods()
    return deployment is not None and deployment.is_rolled_out and before.isdisjoint(pod.uid for pod in pods)


def _have_aged(library: Library) -> bool:
    now = datetime.now(UTC)
    ages = [(now - pod.metadata.creation_timestamp).total_seconds() for pod in _ready(library)]
    return bool(ages) and min(ages) >= AGED_SECONDS


def _in_a_pod(library: Library, code: str, *arguments: str) -> None:
    def is_done() -> bool:
        ready = _ready(library)
        if ready:
            library.cluster.kubectl.python(ready[0].name, library.namespace, code, *arguments)
        return bool(ready)

    wait_for("a ready service pod", is_done, timeout=60)
