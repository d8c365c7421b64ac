"""The operator is away, or dies at the worst moment: the intent is written down, the action is on its way.

That moment is made by an admission webhook that never answers: the operator's deletion of one pod hangs in the API
server, so that there is all the time to kill the process. The webhook fails closed, so that deletion is never carried
out. The process is killed (SIGKILL) by a pod that sees the node's processes.
"""

import contextlib
import json
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from harness.audit import OPERATOR as OPERATOR_USER
from harness.cluster import Cluster
from harness.errors import CommandError, HarnessError
from harness.images import Images
from harness.install import OPERATOR, OPERATOR_NAMESPACE, leader, operator_pods
from harness.objects import Deployment, Pod
from harness.wait import wait_for

NAMESPACE = "knowledgebeast-faults"
AGENT = "agent"
WEBHOOK = "knowledgebeast-faults"
MANIFEST = Path(__file__).with_name("agent.yaml")
WEBHOOK_TIMEOUT_SECONDS = 30  # the longest that the API server allows

_KILL_CONTAINER = """
import os, pathlib, signal, sys
killed = 0
for folder in pathlib.Path("/proc").iterdir():
    try:
        if folder.name.isdigit() and sys.argv[1] in (folder / "cgroup").read_text():
            os.kill(int(folder.name), signal.SIGKILL)
            killed += 1
    except OSError:
        pass
if not killed:
    sys.exit("no process of that container")
"""


@contextlib.contextmanager
def absent(cluster: Cluster) -> Generator[None]:
    """No operator runs: its Deployment has no replicas. It comes back at the end, and leads again."""
    deployment = cluster.api.get(Deployment, OPERATOR, OPERATOR_NAMESPACE)
    if deployment is None:
        raise HarnessError(f"there is no Deployment {OPERATOR_NAMESPACE}/{OPERATOR}")

    def scale(replicas: int) -> None:
        where = f"--namespace={OPERATOR_NAMESPACE}"
        cluster.kubectl.run("scale", f"deployment/{OPERATOR}", where, f"--replicas={replicas}")

    scale(0)
    try:
        wait_for("the operator to be gone", lambda: not operator_pods(cluster), timeout=60)
        yield
    finally:
        scale(deployment.spec.replicas)
        wait_for(
            "a leading operator",
            lambda: leader(cluster),
            timeout=90,
            explain=lambda: cluster.explain(OPERATOR_NAMESPACE),
        )


@dataclass(frozen=True)
class Agent:
    """A pod on the node of everything else that sees all processes, and a Service that accepts and never answers."""

    cluster: Cluster
    images: Images

    @contextlib.contextmanager
    def running(self) -> Generator["Agent"]:
        kubectl = self.cluster.kubectl
        kubectl.apply(MANIFEST.read_text().replace("SERVICE_IMAGE", self.images.service))
        try:
            self.cluster.ready_pod(AGENT, NAMESPACE, timeout=60)
            yield self
        finally:
            kubectl.delete("namespace", NAMESPACE)

    def kill(self, pod: Pod) -> None:
        """SIGKILL to all processes of the pod's containers; the kubelet starts them again."""
        for status in pod.status.container_statuses:
            identifier = status.container_id.rpartition("/")[2]
            self.cluster.kubectl.python(AGENT, NAMESPACE, _KILL_CONTAINER, identifier)

    @contextlib.contextmanager
    def deletion_hangs(self, pod: str, namespace: str) -> Generator[None]:
        """The operator's deletions of this pod hang and then fail; everybody else's go through."""
        kubectl = self.cluster.kubectl
        kubectl.apply(json.dumps(_webhook(pod, namespace)))
        try:
            wait_for("the webhook to take effect", lambda: self._hangs(pod, namespace), timeout=30)
            yield
        finally:
            kubectl.delete("validatingwebhookconfiguration", WEBHOOK)

    def _hangs(self, pod: str, namespace: str) -> bool:
        """Tries it as the operator would, without deleting anything."""
        try:
            self.cluster.kubectl.run(
                "delete", "pod", pod, f"--namespace={namespace}", "--dry-run=server", f"--as={OPERATOR_USER}",
                "--request-timeout=2s",
            )  # fmt: skip
        except CommandError as error:
            said = str(error).lower()
            if "forbidden" in said:
                raise HarnessError(f"the operator may not delete pods in {namespace}: {error}") from error
            # refused at once: the webhook is there, but nobody listens yet
            return "timeout" in said or "deadline" in said
        return False


def _webhook(pod: str, namespace: str) -> dict[str, object]:
    conditions = {
        "by-the-operator": f"request.userInfo.username == '{OPERATOR_USER}'",
        "of-the-pod": f"request.namespace == '{namespace}' && request.name == '{pod}'",
    }
    hook = {
        "name": "silence.knowledgebeast.io",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Fail",
        "timeoutSeconds": WEBHOOK_TIMEOUT_SECONDS,
        "clientConfig": {"service": {"name": "silence", "namespace": NAMESPACE, "port": 443}},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["DELETE"], "resources": ["pods"]}],
        "matchConditions": [{"name": name, "expression": expression} for name, expression in conditions.items()],
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": WEBHOOK},
        "webhooks": [hook],
    }
