"""What "up" means, as questions that are asked until they are answered with yes."""

import json
import time
from collections.abc import Callable
from datetime import datetime

from local_cluster import api, dns, processes, settings
from local_cluster.api import ApiServer
from local_cluster.console import Console
from local_cluster.errors import ClusterError
from local_cluster.paths import State

POLL_SECONDS = 0.1
API_NAME = "kubernetes.default.svc.cluster.local"
PROMETHEUS_JOBS = {"kubelet", "cadvisor", "apiserver", "pods"}

Question = Callable[[], str]
"""Returns "" for yes, else what is still missing."""


def wait(console: Console, state: State, subject: str, ask: Question, timeout_seconds: float) -> None:
    """Asks until yes. Raises ClusterError with the last answer, at once if the cluster died meanwhile."""
    begun = time.monotonic()
    while missing := ask():
        if processes.process_one(state) is None:
            raise ClusterError("the cluster ended while it was starting", _LOGS.format("supervisor"))
        if time.monotonic() - begun > timeout_seconds:
            raise ClusterError(f"{subject} was not ready within {timeout_seconds:.0f} s: {missing}",
                               _LOGS.format("kubelet"))  # fmt: skip
        time.sleep(POLL_SECONDS)
    seconds = time.monotonic() - begun
    console.say(f"{subject}: ready")
    console.note(f"waiting for {subject}", seconds, "ready")


_LOGS = "Look at `cluster.py status` and `cluster.py logs {}`; `cluster.py reset` starts from nothing."


def api_server(server: ApiServer) -> str:
    answer = server.get("/readyz")
    return "" if answer.is_ok else f"/readyz says {answer.status} {answer.body[:200]}"


def kubelet() -> str:
    """The kubelet itself: the objects kept from the last run say Ready long before it runs."""
    answer = api.get(f"http://{settings.NODE_ADDRESS}:10248/healthz")
    return "" if answer.is_ok else f"/healthz says {answer.status} {answer.body[:100]}"


def node(server: ApiServer, started_at: float) -> str:
    """Ready, said by a heartbeat of this run (`started_at`: seconds since the epoch)."""
    answer = server.get(f"/api/v1/nodes/{settings.NODE_NAME}")
    if not answer.is_ok:
        return f"the node object: {answer.status}"
    for condition in api.items(api.field(answer.json(), "status", "conditions")):
        if api.field(condition, "type") == "Ready":
            heartbeat = str(api.field(condition, "lastHeartbeatTime"))
            is_fresh = datetime.fromisoformat(heartbeat).timestamp() >= int(started_at)  # it has whole seconds
            if api.field(condition, "status") == "True" and is_fresh:
                return ""
            return str(api.field(condition, "message"))
    return "it has no Ready condition yet"


def rolled_out(server: ApiServer, namespace: str, name: str) -> str:
    """Every wanted pod of the Deployment's current revision is ready and no older one is left."""
    answer = server.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}")
    if not answer.is_ok:
        return f"the Deployment {namespace}/{name}: {answer.status}"
    deployment = answer.json()
    wanted = api.field(deployment, "spec", "replicas")
    counts = [api.field(deployment, "status", f) for f in ("replicas", "updatedReplicas", "readyReplicas")]
    generations = [api.field(deployment, "metadata", "generation"),
                   api.field(deployment, "status", "observedGeneration")]  # fmt: skip
    if generations[0] == generations[1] and all(count == wanted for count in counts):
        return ""
    return f"{namespace}/{name} has {counts[2] or 0} of {wanted} pods ready"


def names_resolve() -> str:
    try:
        found = dns.look_up(API_NAME, settings.DNS_ADDRESS)
    except (OSError, ValueError) as error:
        return f"{API_NAME}: {error}"
    return "" if found == [settings.API_SERVICE_ADDRESS] else f"{API_NAME} is {found}"


def storage(server: ApiServer) -> str:
    """The kubelet knows the driver, and both storage classes exist."""
    answer = server.get(f"/apis/storage.k8s.io/v1/csinodes/{settings.NODE_NAME}")
    drivers = api.items(api.field(answer.json(), "spec", "drivers")) if answer.is_ok else []
    if not any(api.field(driver, "name") == settings.CSI_DRIVER for driver in drivers):
        return "the driver is not registered with the kubelet"
    for name in ("expandable", "fixed"):
        if not server.get(f"/apis/storage.k8s.io/v1/storageclasses/{name}").is_ok:
            return f"the storage class {name} is missing"
    return ""


def prometheus() -> str:
    """It is ready, and each of its jobs has a target, all of them up."""
    ready = api.get(f"{settings.PROMETHEUS_URL}/-/ready")
    if not ready.is_ok:
        return f"/-/ready says {ready.status} {ready.body[:100]}"
    answer = api.get(f"{settings.PROMETHEUS_URL}/api/v1/targets?state=active")
    return unhealthy_targets(answer.json()) if answer.is_ok else f"/api/v1/targets says {answer.status}"


def unhealthy_targets(answer: api.Json) -> str:
    """Which of the cluster's own jobs has no target or one that is not up; other pods may be as broken as they like."""
    health: dict[str, list[str]] = {}
    for target in api.items(api.field(answer, "data", "activeTargets")):
        if api.field(target, "labels", "namespace") in (None, "kube-system"):
            health.setdefault(str(api.field(target, "labels", "job")), []).append(str(api.field(target, "health")))
    broken = {job: health.get(job, []) for job in sorted(PROMETHEUS_JOBS) if set(health.get(job, [])) != {"up"}}
    return f"targets that are not up: {json.dumps(broken)}" if broken else ""
