"""Which cluster there is, and what it can do.

Where KUBECONFIG names a cluster, it is used as it is. Otherwise the local one is, and is brought up when it is down.
"""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harness.api import Api
from harness.errors import CommandError, UnsuitableClusterError
from harness.kubectl import Kubectl
from harness.objects import Deployment, KubeEvent, Pod, Service, StorageClass
from harness.wait import wait_for

ROOT = Path(__file__).resolve().parent.parent.parent
LOCAL_CLUSTER = ROOT / "hack" / "local-cluster" / "cluster.py"
PROXY_START_SECONDS = 15
EXPLAINED_EVENTS, EXPLAINED_LINES = 15, 20
COLD_START_SECONDS = 30 * 60  # the first start builds Kubernetes
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"


@dataclass(frozen=True)
class Capabilities:
    """What differs between clusters; a test that needs more than there is says so and is skipped."""

    expandable_class: str | None  # a StorageClass whose volumes can grow
    fixed_class: str | None  # one whose volumes cannot
    audit_log: Path | None  # JSON lines of the API server, where this machine can read them
    reaches_services: bool  # ClusterIPs answer from this machine
    enforces_network_policies: bool | None  # None: unknown
    has_own_prometheus: bool  # monitoring/prometheus, which tests may stop and change

    def __str__(self) -> str:
        known = {None: "unknown", True: "enforced", False: "not enforced"}
        return (
            f"expandable volumes: {self.expandable_class or 'none'}; audit log: {self.audit_log or 'out of reach'}; "
            f"network policies: {known[self.enforces_network_policies]}"
        )


class Cluster:
    """One cluster: reads through `api`, changes through `kubectl`."""

    def __init__(self, kubeconfig: Path, *, is_local: bool) -> None:
        self.is_local = is_local
        self.kubectl = Kubectl(kubeconfig)
        self.api = Api(kubeconfig)

    @cached_property
    def capabilities(self) -> Capabilities:
        classes = self.api.list(StorageClass)
        return Capabilities(
            expandable_class=next((item.name for item in classes if item.allow_volume_expansion), None),
            fixed_class=next((item.name for item in classes if not item.allow_volume_expansion), None),
            audit_log=Path(_local("audit-log")) if self.is_local else None,
            reaches_services=self.is_local,
            enforces_network_policies=False if self.is_local else None,
            has_own_prometheus=self.api.get(Deployment, "prometheus", "monitoring") is not None,
        )

    @cached_property
    def context(self) -> str:
        return self.kubectl.run("config", "current-context").strip()

    @contextlib.contextmanager
    def reach(self, service: str, namespace: str) -> Generator[str]:
        """A URL under which this machine reaches a Service, without a slash at the end.

        On the local cluster that is the ClusterIP. Elsewhere it is the API server's proxy, which chooses an endpoint
        for every request; `kubectl port-forward` would stick to one pod and break when that pod goes.
        """
        found = self.api.get(Service, service, namespace)
        if found is None or not found.spec.ports:
            raise UnsuitableClusterError(f"there is no Service {service} in {namespace}")
        port = found.spec.ports[0].port
        if self.capabilities.reaches_services:
            yield f"http://{found.spec.cluster_ip}:{port}"
            return
        with self._api_proxy() as proxy:
            yield f"{proxy}/api/v1/namespaces/{namespace}/services/{service}:{port}/proxy"

    @contextlib.contextmanager
    def _api_proxy(self) -> Generator[str]:
        argv = self.kubectl.argv("proxy", "--port=0")
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as proxy:
            try:
                line = proxy.stdout.readline() if proxy.stdout else ""
                found = re.search(r"127\.0\.0\.1:\d+", line)
                if found is None:
                    raise CommandError(f"kubectl proxy did not start: {line!r}")
                yield f"http://{found.group()}"
            finally:
                proxy.terminate()

    def pod(self, name: str, namespace: str) -> Pod | None:
        return self.api.get(Pod, name, namespace)

    def ready_pod(self, name: str, namespace: str, *, timeout: float, unlike: str = "") -> Pod:
        """Waits for a ready pod of that name, of another uid than `unlike`."""

        def probe() -> Pod | None:
            found = self.pod(name, namespace)
            return found if found is not None and found.is_ready and found.uid != unlike else None

        return wait_for(f"a ready pod {name}", probe, timeout=timeout, explain=lambda: self.explain(namespace))

    def explain(self, namespace: str) -> str:
        """Pods, the latest events, and the logs of what is not ready: for messages about what did not come."""
        pods = self.api.list(Pod, namespace)
        events = sorted(self.api.list(KubeEvent, namespace), key=lambda event: event.metadata.creation_timestamp)
        logs = [self._log(pod, namespace) for pod in pods if not pod.is_ready]
        return "\n".join(
            [f"pods of {namespace}:", *(f"  {pod}" for pod in pods),
             "latest events:", *(f"  {event}" for event in events[-EXPLAINED_EVENTS:]), *logs]
        )  # fmt: skip

    def _log(self, pod: Pod, namespace: str) -> str:
        """The last lines, of the run before this one where there was one: that is the one that failed."""
        previous = ["--previous"] if pod.restarts else []
        try:
            text = self.kubectl.run(
                "logs", pod.name, f"--namespace={namespace}", f"--tail={EXPLAINED_LINES}", *previous
            )
        except CommandError as error:
            text = str(error)
        return f"log of {pod.name}:\n{text.rstrip()}"

    def close(self) -> None:
        self.api.close()


def connect(environment: Mapping[str, str] = os.environ) -> Cluster:
    """The cluster of KUBECONFIG, or the local one, which is started if it does not run.

    Raises:
        UnsuitableClusterError: KUBECONFIG is set and cannot be used.
        CommandError: the local cluster did not come up.
    """
    named = environment.get("KUBECONFIG", "")
    local = Path(_local("kubeconfig"))
    if not named or Path(named) == local:
        _bring_up()
        return Cluster(local, is_local=True)
    if os.pathsep in named or not Path(named).is_file():
        raise UnsuitableClusterError(f"KUBECONFIG={named} is not one file; set it to one, or unset it")
    cluster = Cluster(Path(named), is_local=False)
    cluster.kubectl.run("version")
    return cluster


def _bring_up() -> None:
    """Progress goes to this program's standard error."""
    done = subprocess.run([sys.executable, LOCAL_CLUSTER, "up"], timeout=COLD_START_SECONDS, check=False)
    if done.returncode != 0:
        raise CommandError("the local cluster did not come up (see above); `make cluster-down` clears what is left")


def _local(command: str) -> str:
    done = subprocess.run([sys.executable, LOCAL_CLUSTER, command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CommandError(f"cluster.py {command}: {done.stderr.strip()}")
    return done.stdout.strip()
