"""What can happen to the embedding model's files on the volume. A pod that has loaded them before goes on with them."""

import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from typing import Final

from harness.errors import NotMetError
from harness.library import Library
from harness.objects import Pod

QUICK: Final = {
    "name": "EmbeddingModelFailure",
    "window": "20s",
    "for": "8s",
    "settle": "5s",
    "cooldown": "10s",
    "healthyPeriod": "15s",
    "verifyTimeout": "3m",
}
"""Settings of incident 6 with which it comes and goes within a scenario."""

_REMOVE_GRAPHS = """
import pathlib
for graph in pathlib.Path("/data/models").glob("*/model*.onnx"):
    graph.unlink()
"""

# The checksum is that of the broken file, as in an image whose build went wrong: nothing is damaged, it only does not
# work. The file is exchanged, not written over, because other pods may have it mapped.
_BREAK_GRAPH = """
import hashlib, json, os, pathlib, sys
[manifest] = pathlib.Path("/data/models").glob("*/manifest.json")
def exchange(path, content):
    scratch = path.with_name(path.name + ".new")
    scratch.write_bytes(content)
    os.replace(scratch, path)
described = json.loads(manifest.read_bytes())
graph = manifest.with_name(described["graphs"][sys.argv[1]])
exchange(graph, graph.read_bytes()[:1000])
described["files"][graph.name] = hashlib.sha256(graph.read_bytes()).hexdigest()
exchange(manifest, json.dumps(described).encode())
"""

_PUT_BACK = """
import filecmp, os, pathlib, shutil
for manifest in pathlib.Path("/opt/knowledgebeast/models").rglob("manifest.json"):
    [folder] = [path.parent for path in pathlib.Path("/data/models").glob("*/manifest.json")]
    for original in manifest.parent.iterdir():
        file = folder / original.name
        if not file.exists() or not filecmp.cmp(original, file, shallow=False):
            shutil.copyfile(original, file.with_name(file.name + ".new"))
            os.replace(file.with_name(file.name + ".new"), file)
"""


@dataclass(frozen=True)
class Model:
    """The model folder of a library, which all its pods share."""

    library: Library

    @contextlib.contextmanager
    def lost(self) -> Generator[Pod]:
        """The graphs are deleted, and a pod starts anew and finds none. Gives the pod that went."""
        self._python(_REMOVE_GRAPHS)
        try:
            yield self.restart_a_pod()
        finally:
            self._python(_PUT_BACK)

    @contextlib.contextmanager
    def broken(self, precision: str) -> Generator[Pod]:
        """A graph that no runtime can load, with a checksum that is right, and a pod starts anew with it."""
        self._python(_BREAK_GRAPH, precision)
        try:
            yield self.restart_a_pod()
        finally:
            self._python(_PUT_BACK)

    def restart_a_pod(self) -> Pod:
        """Deletes one service pod; the Deployment makes another."""
        pod = self._ready_pods()[0]
        kubectl = self.library.cluster.kubectl
        kubectl.run("delete", "pod", pod.name, f"--namespace={self.library.namespace}", "--wait=false")
        return pod

    def _ready_pods(self) -> list[Pod]:
        found = [pod for pod in self.library.service_pods() if pod.is_ready and not pod.metadata.deletion_timestamp]
        if not found:
            raise NotMetError(f"no service pod of {self.library.name} is ready")
        return sorted(found, key=lambda pod: pod.name)

    def _python(self, code: str, *arguments: str) -> None:
        pod = self._ready_pods()[-1]
        self.library.cluster.kubectl.python(pod.name, self.library.namespace, code, *arguments, container="service")
