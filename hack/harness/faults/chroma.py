"""What can happen to Chroma. Signals and files are reached by `kubectl exec`, so any cluster will do.

The pod shares one process namespace, so a process that exec starts can signal Chroma, and Chroma is not process 1.
"""

import contextlib
import signal
from collections.abc import Generator
from dataclasses import dataclass

from harness.cluster import Cluster
from harness.errors import CommandError
from harness.objects import Pod, StatefulSet
from harness.wait import wait_for

CONTAINER = "chroma"

FIND_PROCESSES = """
import os, pathlib, sys
def is_chroma(folder):
    try:
        words = (folder / "cmdline").read_bytes().split(b"\\0")
    except OSError:
        return False
    return any(word.rpartition(b"/")[2] == b"chroma" for word in words) and b"run" in words
processes = [int(f.name) for f in pathlib.Path("/proc").iterdir() if f.name.isdigit() and is_chroma(f)]
if not processes:
    sys.exit("there is no Chroma in this pod")
"""
"""Python to be run in Chroma's pod: `processes` are the ids of its server."""

_SIGNAL_CHROMA = f"""{FIND_PROCESSES}
for process in processes:
    os.kill(process, int(sys.argv[1]))
"""

# The server goes on with the file that it has open; the intact copy lies at the path for the next one.
_REPLACE_FILE = """
import os, shutil
path = "/data/chroma.sqlite3"
shutil.copy2(path, path + ".copy")
os.rename(path, path + ".open")
os.rename(path + ".copy", path)
with open(path + ".open", "r+b") as file:
    file.write(b"\\0" * os.fstat(file.fileno()).st_size)
os.unlink(path + ".open")
"""

_RENAME_TABLE = """
import contextlib, sqlite3, sys
have, want = sys.argv[1:]
with contextlib.closing(sqlite3.connect("/data/chroma.sqlite3", timeout=10)) as connection:
    tables = {name for name, in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if want not in tables:
        connection.execute(f"ALTER TABLE {have} RENAME TO {want}")
        connection.commit()
"""


@dataclass(frozen=True)
class Chroma:
    """The Chroma of one KnowledgeBeast."""

    cluster: Cluster
    knowledgebeast: str
    namespace: str

    @property
    def stateful_set(self) -> str:
        return f"{self.knowledgebeast}-chroma"

    @property
    def pod_name(self) -> str:
        return f"{self.stateful_set}-0"

    def pod(self) -> Pod | None:
        return self.cluster.pod(self.pod_name, self.namespace)

    def pod_uid(self) -> str | None:
        """None while there is no pod."""
        found = self.pod()
        return None if found is None else found.uid

    def ready_pod(self, *, unlike: str = "", timeout: float = 120) -> Pod:
        """Waits for the ready pod; `unlike` is the uid of one that does not count."""
        return self.cluster.ready_pod(self.pod_name, self.namespace, timeout=timeout, unlike=unlike)

    @contextlib.contextmanager
    def hung(self) -> Generator[Pod]:
        """SIGSTOP: the port goes on accepting connections and nothing answers. Gives the pod that hangs."""
        pod = self.ready_pod()
        self._signal(signal.SIGSTOP)
        try:
            yield pod
        finally:
            if self._is_still(pod):
                self._signal(signal.SIGCONT)

    def kill(self) -> Pod:
        """SIGKILL; the kubelet starts the container again. Gives the pod, which stays the same."""
        pod = self.ready_pod()
        self._signal(signal.SIGKILL)
        return pod

    def delete_pod(self) -> Pod:
        """Gives the pod that was there; the StatefulSet makes another one."""
        pod = self.ready_pod()
        self.cluster.kubectl.run("delete", "pod", pod.name, f"--namespace={self.namespace}", "--wait=false")
        return pod

    @contextlib.contextmanager
    def file_replaced(self) -> Generator[Pod]:
        """Its database is exchanged under the running server, as by a restore beside it.

        Every read ends in 500 ("file is not a database"), the heartbeat stays 200, and a restart cures it. Without one,
        the pod is deleted at the end.
        """
        pod = self.ready_pod()
        self._python(_REPLACE_FILE)
        try:
            yield pod
        finally:
            if self._is_still(pod):
                self.delete_pod()

    @contextlib.contextmanager
    def table_missing(self) -> Generator[Pod]:
        """A table is renamed: every read ends in 500, the heartbeat stays 200, and no restart cures it."""
        pod = self.ready_pod()
        self._python(_RENAME_TABLE, "collections", "collections_aside")
        try:
            yield pod
        finally:
            self.ready_pod()
            self._python(_RENAME_TABLE, "collections_aside", "collections")

    @contextlib.contextmanager
    def image_unpullable(self, image: str = "localhost/no-such-image:none") -> Generator[Pod]:
        """Somebody sets an image that no registry has. Gives the pod that was there before."""
        pod = self.ready_pod()
        before = pod.spec.containers[0].image  # not the status: containerd may name another tag of the same image
        self._set_image(image)
        try:
            yield pod
        finally:
            self._set_image(before)
            self.ready_pod()

    def _set_image(self, image: str) -> None:
        target = f"statefulset/{self.stateful_set}"
        self.cluster.kubectl.run("set", "image", target, f"{CONTAINER}={image}", f"--namespace={self.namespace}")
        wait_for(f"the pod with {image}", lambda: self._runs(image), timeout=60)

    def _runs(self, image: str) -> bool:
        pod, workload = self.pod(), self.cluster.api.get(StatefulSet, self.stateful_set, self.namespace)
        current = workload is not None and workload.status.observed_generation >= workload.metadata.generation
        return current and pod is not None and [item.image for item in pod.spec.containers] == [image]

    def _is_still(self, pod: Pod) -> bool:
        found = self.pod()
        return found is not None and found.uid == pod.uid and found.metadata.deletion_timestamp is None

    def _signal(self, number: signal.Signals) -> None:
        try:
            self._python(_SIGNAL_CHROMA, str(int(number)))
        except CommandError as error:
            # 137: the kubelet ended the container, and this process with it, before it could say so
            if number is not signal.SIGKILL or "137" not in str(error):
                raise

    def _python(self, code: str, *arguments: str) -> None:
        self.cluster.kubectl.python(self.pod_name, self.namespace, code, *arguments, container=CONTAINER)
