"""A volume that fills up: real blocks of its file system, in files of the place, the kind and the age that matter."""

import contextlib
import json
from collections.abc import Generator
from dataclasses import asdict, dataclass
from typing import Final

from harness.errors import NotMetError
from harness.faults.chroma import CONTAINER
from harness.library import READY_SECONDS, Library
from harness.wait import wait_for

CHROMA: Final = "chroma"
DATABASE: Final = "database"

SOON: Final = {
    "runbooks": [
        {
            "name": "DiskSpaceCritical",
            "for": "8s",
            "settle": "12s",
            "verifyTimeout": "20s",
            "cooldown": "5s",
            "healthyPeriod": "15s",
        }
    ]
}
"""`spec.remediation` with which an option that does not help is given up after half a minute, because the local kubelet
measures volumes every 10 s."""

_FILL = """
import json, os, pathlib, sys, time
root, free, heaps = pathlib.Path(sys.argv[1]), float(sys.argv[2]), json.loads(sys.argv[3])
LINE = b'{"level": "info", "message": "search answered", "project": "library", "took_ms": 12.5}\\n'
STEP = 16 * 2**20
def missing():
    status = os.statvfs(root)
    return int((status.f_bavail - free * status.f_blocks) * status.f_frsize)
made = []
for heap in heaps:
    left = missing() if heap["megabytes"] is None else heap["megabytes"] * 2**20
    while left > 0:
        path = root / heap["folder"] / heap["name"].format(len(made) + 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        size = min(left, STEP)
        with path.open("xb") as file:
            if heap["is_text"]:
                file.write(LINE * (size // len(LINE)))
                file.flush()
                os.fsync(file.fileno())
            else:
                os.posix_fallocate(file.fileno(), 0, size)
        moment = time.time() - heap["days_old"] * 86400 - len(made) * 60
        os.utime(path, (moment, moment))
        made.append((str(path), heap["must_stay"]))
        left -= size
print(json.dumps(made))
"""

_REMOVE = """
import json, os, pathlib, sys
gone = [path for path, must_stay in json.loads(sys.argv[1]) if must_stay and not os.path.exists(path)]
for path, _ in json.loads(sys.argv[1]):
    pathlib.Path(path).unlink(missing_ok=True)
print(json.dumps(gone))
"""


@dataclass(frozen=True)
class Heap:
    """Files in one folder of the volume.

    Attributes:
        folder: below the volume's root.
        name: `{}` stands for a number.
        days_old: since they were last written.
        megabytes: all of them together; None, as much as the volume still lacks.
        is_text: lines of a log, which can be compressed; otherwise blocks that are only taken.
        must_stay: what somebody needs. It is an error when one is gone at the end.
    """

    folder: str
    name: str
    days_old: float = 0
    megabytes: int | None = None
    is_text: bool = False
    must_stay: bool = False


@dataclass(frozen=True)
class Volume:
    """The volume of the database or of Chroma."""

    library: Library
    name: str = DATABASE

    @contextlib.contextmanager
    def filled(self, *heaps: Heap, free: float = 0.07) -> Generator[None]:
        """With these files, in this order, until only this share is free. What is left of them goes at the end.

        Raises:
            NotMetError: a file that must stay was gone at the end.
        """
        told = json.dumps([asdict(heap) for heap in heaps])
        made = self._python(_FILL, "/data", str(free), told)
        try:
            yield
        finally:
            gone = json.loads(self._python(_REMOVE, made.strip()))
        if gone:
            raise NotMetError(f"{len(gone)} files that somebody needs were removed, {gone[0]} among them")

    def requested(self) -> str:
        """What its claim asks for."""
        library = self.library
        return library.cluster.kubectl.run(
            "get", "persistentvolumeclaim", f"{library.name}-{self.name}", f"--namespace={library.namespace}",
            "--output=jsonpath={.spec.resources.requests.storage}",
        )  # fmt: skip

    def _python(self, code: str, *arguments: str) -> str:
        library = self.library
        if self.name == CHROMA:
            pod, container = library.chroma.ready_pod().name, CONTAINER
        else:
            ready = wait_for(
                "a ready service pod",
                lambda: [pod for pod in library.service_pods() if pod.is_ready],
                timeout=READY_SECONDS,
                explain=library.explain,
            )
            pod, container = ready[0].name, None
        return library.cluster.kubectl.python(pod, library.namespace, code, *arguments, container=container)
