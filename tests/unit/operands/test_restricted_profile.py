"""Every pod fits the `restricted` Pod Security Standard, checked as kubernetes.io describes it, and a little more."""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import cast

import pytest
import yaml

from knowledgebeast_operator.operands import effective
from knowledgebeast_operator.operands.maintenance import BesidePods, MaintenanceTask, job
from operand_objects import at, knowledge_beast, operands, pod_specs

MANIFESTS = Path(__file__).parents[3] / "manifests"

Json = dict[str, object]

ALLOWED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def violations(pod: Mapping[str, object]) -> Iterator[str]:
    """What the admission controller would refuse, and what this project forbids beyond it."""
    security = cast("Json", pod.get("securityContext", {}))
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(field):
            yield f"{field} is set"
    for volume in cast("list[Json]", pod.get("volumes", [])):
        if not set(volume) - {"name"} <= ALLOWED_VOLUMES:
            yield f"volume {volume['name']} is of a forbidden type"
    if cast("Json", security.get("seccompProfile", {})).get("type") not in {"RuntimeDefault", "Localhost"}:
        yield "no seccomp profile"
    containers = [*cast("list[Json]", pod["containers"]), *cast("list[Json]", pod.get("initContainers", []))]
    for container in containers:
        yield from (f"{container['name']}: {what}" for what in container_violations(container, security))


def container_violations(container: Json, pod_security: Json) -> Iterator[str]:
    security = cast("Json", container.get("securityContext", {}))
    capabilities = cast("dict[str, list[str]]", security.get("capabilities", {}))
    resources = cast("dict[str, Json]", container.get("resources", {}))
    if security.get("privileged"):
        yield "privileged"
    if security.get("allowPrivilegeEscalation") is not False:
        yield "privilege escalation is possible"
    if security.get("runAsNonRoot", pod_security.get("runAsNonRoot")) is not True:
        yield "may run as root"
    if security.get("runAsUser", pod_security.get("runAsUser")) in {None, 0}:
        yield "has no user, or root"
    if "ALL" not in capabilities.get("drop", []) or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield "keeps capabilities"
    if any("hostPort" in port for port in cast("list[Json]", container.get("ports", []))):
        yield "uses a port of the host"
    if security.get("readOnlyRootFilesystem") is not True:
        yield "can write to its root file system"
    for part in ("requests", "limits"):
        if not {"cpu", "memory"} <= set(resources.get(part, {})):
            yield f"has no {part} for cpu and memory"


OF_AN_OBJECT = [
    "demo",
    "demo-chroma",
    "demo-backup",
    "demo-check",
    "demo-drill",
    "demo-warm",
    "demo-clean",
    "maintenance",
]


def all_pods() -> dict[str, Mapping[str, object]]:
    kb = knowledge_beast()
    task = MaintenanceTask(attempt_id="demo-x-0001-1", task="check")
    maintenance = job(kb, effective(kb, default_image="i"), task, BesidePods())
    operator = yaml.safe_load((MANIFESTS / "operator" / "deployment.yaml").read_text())
    return pod_specs(operands()) | pod_specs(
        {("Job", "maintenance"): maintenance, ("Deployment", "operator"): operator}
    )


@pytest.mark.parametrize("name", [*OF_AN_OBJECT, "operator"])
def test_a_pod_is_let_into_a_restricted_namespace(name: str) -> None:
    assert list(violations(all_pods()[name])) == []


@pytest.mark.parametrize("name", OF_AN_OBJECT)
def test_a_pod_of_an_object_has_no_token_for_the_api_server(name: str) -> None:
    assert all_pods()[name]["automountServiceAccountToken"] is False


def test_all_pods_are_covered() -> None:
    assert set(all_pods()) == {*OF_AN_OBJECT, "operator"}


def _container(pod: Json) -> Json:
    return cast("Json", at(pod, "containers", 0))


def _security(pod: Json) -> Json:
    return cast("Json", at(pod, "containers", 0, "securityContext"))


SPOILT: dict[str, tuple[Callable[[Json], object], str]] = {
    "root": (lambda pod: _security(pod).update(runAsNonRoot=False), "may run as root"),
    "user 0": (lambda pod: _security(pod).update(runAsUser=0), "has no user, or root"),
    "privileged": (lambda pod: _security(pod).update(privileged=True), "privileged"),
    "escalation": (lambda pod: _security(pod).pop("allowPrivilegeEscalation"), "privilege escalation is possible"),
    "capabilities kept": (lambda pod: _security(pod).pop("capabilities"), "keeps capabilities"),
    "capability added": (
        lambda pod: _security(pod).update(capabilities={"drop": ["ALL"], "add": ["SYS_ADMIN"]}),
        "keeps capabilities",
    ),
    "no seccomp": (lambda pod: cast("Json", pod["securityContext"]).pop("seccompProfile"), "no seccomp profile"),
    "host path": (
        lambda pod: cast("list[Json]", pod["volumes"]).append({"name": "root", "hostPath": {"path": "/"}}),
        "volume root is of a forbidden type",
    ),
    "host network": (lambda pod: pod.update(hostNetwork=True), "hostNetwork is set"),
    "host port": (lambda pod: _container(pod).update(ports=[{"hostPort": 80}]), "uses a port of the host"),
    "writable root": (
        lambda pod: _security(pod).update(readOnlyRootFilesystem=False),
        "can write to its root file system",
    ),
    "no limits": (
        lambda pod: cast("Json", _container(pod)["resources"]).pop("limits"),
        "has no limits for cpu and memory",
    ),
}


@pytest.mark.parametrize("spoil", SPOILT)
def test_the_check_finds_a_spoilt_pod(spoil: str) -> None:
    pod = deepcopy(dict(all_pods()["demo"]))
    change, expected = SPOILT[spoil]
    change(pod)
    assert [found for found in violations(pod) if found.endswith(expected)] != []
