"""A real API server takes every operand, and lets its pods into a namespace that enforces the restricted profile."""

import json
import uuid
from collections.abc import Generator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import cast

import pytest
import yaml

from harness.cluster import connect
from harness.errors import CommandError
from harness.kubectl import Kubectl
from knowledgebeast_operator.custom_resource import FIELD_MANAGER
from knowledgebeast_operator.custom_resource.spec import RestoreFrom
from knowledgebeast_operator.operands import Manifest, effective
from knowledgebeast_operator.operands.bootstrap import bootstrap_job
from knowledgebeast_operator.operands.maintenance import Anywhere, BesidePods, MaintenanceTask, OnNode, Placement, job
from operand_objects import DEFAULT_IMAGE, REMOTE, at, knowledge_beast, operands

pytestmark = pytest.mark.e2e

OPERATOR = Path(__file__).parents[2] / "manifests" / "operator" / "deployment.yaml"

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}

EVERYTHING_ADDED: dict[str, object] = {
    "service": {
        "podTemplate": {
            "nodeSelector": {"disk": "fast"},
            "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}],
            "imagePullSecrets": [{"name": "registry"}],
            "labels": {"team": "search"},
            "annotations": {"note": "x"},
            "env": [{"name": "LOG_QUERIES", "value": "true"}],
        }
    },
    "chroma": {"storage": {"storageClassName": "fast"}},
    "database": {"backup": {"remote": REMOTE}},
    "deletionPolicy": "Delete",
}


@pytest.fixture(scope="module")
def kubectl() -> Generator[Kubectl]:
    cluster = connect()
    try:
        yield cluster.kubectl
    finally:
        cluster.close()


@pytest.fixture(scope="module")
def namespace(kubectl: Kubectl) -> Generator[str]:
    name = f"admission-tests-{uuid.uuid4().hex[:8]}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}}
    kubectl.run("create", "-f", "-", stdin=json.dumps(body))
    # The controller makes the account a moment later, and a pod without one is refused for that.
    kubectl.run("wait", "--for=create", "--timeout=30s", f"--namespace={name}", "serviceaccount/default")
    yield name
    kubectl.delete("namespace", name)


def maintenance_job(placement: Placement) -> Manifest:
    kb = knowledge_beast()
    task = MaintenanceTask(attempt_id="demo-database-corruption-0001-1", task="check", arguments=("--full",))
    return job(kb, effective(kb, default_image=DEFAULT_IMAGE), task, placement)


def first_restore(**source: object) -> Manifest:
    kb = knowledge_beast()
    asked = RestoreFrom.model_validate(source or {"claimName": "other-backups"})
    return bootstrap_job(kb, effective(kb, default_image=DEFAULT_IMAGE), asked)


def into(namespace: str, manifest: Mapping[str, object]) -> str:
    metadata = cast("Mapping[str, object]", manifest["metadata"])
    return json.dumps({**manifest, "metadata": {**metadata, "namespace": namespace}})


def not_kept(sent: object, live: object, path: str = "") -> list[str]:
    """Fields of `sent` that the server dropped or changed. Empty ones are the same as missing ones."""
    if isinstance(sent, Mapping) and isinstance(live, Mapping):
        kept = cast("Mapping[str, object]", live)
        fields = cast("Mapping[str, object]", sent).items()
        return [
            problem
            for name, value in fields
            if value not in ({}, [])
            for problem in not_kept(value, kept.get(name), f"{path}.{name}")
        ]
    if isinstance(sent, list) and isinstance(live, list):
        pairs = enumerate(zip_longest(cast("list[object]", sent), cast("list[object]", live)))
        return [problem for index, (one, other) in pairs for problem in not_kept(one, other, f"{path}[{index}]")]
    return [] if sent == live else [f"{path}: {sent!r} became {live!r}"]


@pytest.mark.parametrize(
    "manifest",
    [
        *(pytest.param(manifest, id=f"{kind} {name}") for (kind, name), manifest in operands().items()),
        *(
            pytest.param(manifest, id=f"{kind} {name} with everything added")
            for (kind, name), manifest in operands(EVERYTHING_ADDED).items()
        ),
        *(
            pytest.param(maintenance_job(placement), id=f"Job {type(placement).__name__}")
            for placement in (BesidePods(), OnNode("node-1"), Anywhere())
        ),
        pytest.param(first_restore(), id="Job of a new object"),
        pytest.param(first_restore(remote=REMOTE), id="Job of a new object from object storage"),
    ],
)
def test_an_operand_is_taken_as_it_is(kubectl: Kubectl, namespace: str, manifest: Manifest) -> None:
    how = ("--server-side", f"--field-manager={FIELD_MANAGER}", "--dry-run=server", "--warnings-as-errors")
    live = json.loads(kubectl.run("apply", *how, "--output=json", "-f", "-", stdin=into(namespace, manifest)))
    live["metadata"]["namespace"] = "search"
    assert not_kept(manifest, live) == []


def templates() -> dict[str, Manifest]:
    manifests = {f"{kind} {name}": manifest for (kind, name), manifest in operands().items()}
    workloads = {key: manifest for key, manifest in manifests.items() if key.startswith(("Deployment", "StatefulSet"))}
    operator = yaml.safe_load(OPERATOR.read_text())
    jobs = {"Job": maintenance_job(BesidePods()), "Job of a new object": first_restore(remote=REMOTE)}
    jobs |= {
        key: cast("Manifest", at(one, "spec", "jobTemplate")) for key, one in manifests.items() if "CronJob" in key
    }
    all_workloads = {**workloads, **jobs, "operator": operator}
    return {key: cast("Manifest", at(manifest, "spec", "template")) for key, manifest in all_workloads.items()}


def create_pod(kubectl: Kubectl, namespace: str, spec: Mapping[str, object]) -> None:
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "tried"}, "spec": spec}
    kubectl.run("create", "--dry-run=server", f"--namespace={namespace}", "-f", "-", stdin=json.dumps(body))


@pytest.mark.parametrize("workload", templates())
def test_its_pods_are_let_into_a_restricted_namespace(kubectl: Kubectl, namespace: str, workload: str) -> None:
    spec = cast("Mapping[str, object]", templates()[workload]["spec"])
    create_pod(kubectl, namespace, {**spec, "serviceAccountName": "default"})


CONTROL: dict[str, object] = {
    "containers": [{"name": "control", "image": DEFAULT_IMAGE, "securityContext": {"privileged": True}}],
    "volumes": [{"name": "root", "hostPath": {"path": "/"}}],
}


def test_a_pod_that_breaks_the_profile_is_refused_there(kubectl: Kubectl, namespace: str) -> None:
    with pytest.raises(CommandError, match="violates PodSecurity"):
        create_pod(kubectl, namespace, CONTROL)
