"""Changes that people make on the way from the service to Chroma, by plain `kubectl patch`."""

import contextlib
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Final

from harness.library import Library
from harness.objects import Service, StatefulSet
from harness.wait import wait_for

NO_SUCH_NODE: Final = {"example.com/disk": "none-such"}


@dataclass(frozen=True)
class ChromaService:
    """The Service before Chroma's pod."""

    library: Library

    @property
    def name(self) -> str:
        return self.library.chroma.stateful_set

    def get(self) -> Service:
        found = self.library.cluster.api.get(Service, self.name, self.library.namespace)
        assert found is not None
        return found

    @contextlib.contextmanager
    def selects_nothing(self) -> Generator[Service]:
        """Somebody changes the selector. Gives the Service as it was.

        Connections that are open go on, as with any kube-proxy, so Chroma is restarted by its kubelet (SIGKILL): when
        it is back, nobody finds it.
        """
        before = self.get()
        self._patch({"selector": {"app.kubernetes.io/component": "vector-store"}})
        self.library.chroma.kill()
        try:
            yield before
        finally:
            self._patch({"selector": before.spec.selector})

    @contextlib.contextmanager
    def wrong_target_port(self, port: int = 9000) -> Generator[Service]:
        """Somebody changes the port of the pod to one where nobody listens; else as `selects_nothing`."""
        before = self.get()
        [http] = before.spec.ports
        self._patch({"ports": [{"name": http.name, "port": http.port, "targetPort": port}]})
        self.library.chroma.kill()
        try:
            yield before
        finally:
            self._patch({"ports": [{"name": http.name, "port": http.port, "targetPort": http.target_port}]})

    def _patch(self, spec: Mapping[str, object]) -> None:
        self.library.cluster.kubectl.patch("service", self.name, self.library.namespace, {"spec": spec})


@contextlib.contextmanager
def unschedulable(library: Library) -> Generator[None]:
    """Somebody asks for a node that there is not: Chroma's pod stays pending, and nothing is behind its Service."""
    chroma, kubectl = library.chroma, library.cluster.kubectl
    before = chroma.ready_pod()

    def select(node: Mapping[str, str | None]) -> None:
        patch = {"spec": {"template": {"spec": {"nodeSelector": node}}}}
        kubectl.patch("statefulset", chroma.stateful_set, library.namespace, patch)

    def is_pending() -> bool:
        found = chroma.pod()
        return found is not None and found.uid != before.uid and found.status.phase == "Pending"

    def is_seen() -> bool:
        found = library.cluster.api.get(StatefulSet, chroma.stateful_set, library.namespace)
        return found is not None and found.status.observed_generation >= found.metadata.generation

    select(NO_SUCH_NODE)
    wait_for("the pod that no node takes", is_pending, timeout=60)
    try:
        yield
    finally:
        select(dict.fromkeys(NO_SUCH_NODE))
        wait_for("the StatefulSet to see its template", is_seen, timeout=30)
        kubectl.delete("pod", chroma.pod_name, library.namespace)
        chroma.ready_pod(unlike=before.uid)
