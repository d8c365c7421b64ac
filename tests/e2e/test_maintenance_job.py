"""A maintenance Job runs where the volume is: beside the pods that have it mounted, and alone when there are none."""

import json
import uuid
from typing import cast

import pytest

from harness.library import Library
from harness.objects import Deployment, Pod
from harness.wait import wait_for
from knowledgebeast_operator.custom_resource import KnowledgeBeast
from knowledgebeast_operator.operands import effective
from knowledgebeast_operator.operands.maintenance import BesidePods, MaintenanceTask, OnNode, Placement, job

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

JOB_SECONDS = 90


def run_check(library: Library, placement: Placement) -> tuple[Pod, dict[str, object]]:
    """Runs `knowledgebeast maintain check` as a Job; its pod, and the result in the termination message."""
    kubectl, namespace = library.cluster.kubectl, library.namespace
    body = json.loads(kubectl.run("get", "knowledgebeast", library.name, f"--namespace={namespace}", "--output=json"))
    kb = KnowledgeBeast.parse(body)
    image = library.service_pods()[0].spec.containers[0].image if library.service_pods() else default_image(library)
    task = MaintenanceTask(f"check-{uuid.uuid4().hex[:8]}", "check")
    kubectl.apply(json.dumps(job(kb, effective(kb, default_image=image), task, placement)))
    kubectl.run("wait", "--for=condition=complete", f"job/{task.attempt_id}", f"--namespace={namespace}",
                f"--timeout={JOB_SECONDS}s", timeout=JOB_SECONDS + 10)  # fmt: skip
    (pod,) = library.cluster.api.list(Pod, namespace, labels=f"job-name={task.attempt_id}")
    path = "jsonpath={.status.containerStatuses[0].state.terminated.message}"
    message = kubectl.run("get", "pod", pod.name, f"--namespace={namespace}", f"--output={path}")
    kubectl.delete("job", task.attempt_id, namespace)
    return pod, cast("dict[str, object]", json.loads(message))


def default_image(library: Library) -> str:
    """Of the Deployment, for when no pod of it runs."""
    path = "jsonpath={.spec.template.spec.containers[0].image}"
    return library.cluster.kubectl.run(
        "get", "deployment", library.name, f"--namespace={library.namespace}", f"--output={path}"
    )


def assert_found_whole(result: dict[str, object]) -> None:
    measured = cast("dict[str, object]", result["measured"])
    assert result["ok"] is True, result
    assert measured["problems"] == []
    assert cast("int", measured["documents_rows"]) > 0


def test_runs_beside_the_pods_that_have_the_volume(library: Library) -> None:
    pod, result = run_check(library, BesidePods())

    assert {pod.spec.node_name} == {other.spec.node_name for other in library.service_pods()}
    assert_found_whole(result)


def test_runs_on_the_recorded_node_when_no_pod_does(library: Library) -> None:
    """The kill switch keeps the operator from bringing the pods back meanwhile."""
    nodes = {pod.spec.node_name for pod in library.service_pods()}
    kubectl, namespace = library.cluster.kubectl, library.namespace
    library.patch({"spec": {"remediation": {"mode": "Disabled"}}})
    library.wait_for_condition("RemediationAllowed", "False", timeout=30)
    kubectl.run("scale", f"deployment/{library.name}", "--replicas=0", f"--namespace={namespace}")
    try:
        wait_for("no service pod", lambda: not library.service_pods(), timeout=60, explain=library.explain)
        recorded = {volume["node"] for volume in recorded_volumes(library) if volume["name"] == "database"}
        assert recorded == nodes

        pod, result = run_check(library, OnNode(next(iter(recorded))))
    finally:
        library.patch({"spec": {"remediation": {"mode": "Enforce"}}})

    assert {pod.spec.node_name} == nodes
    assert_found_whole(result)
    wait_for("the operator to bring the pods back", lambda: is_rolled_out(library), timeout=90, explain=library.explain)


def recorded_volumes(library: Library) -> list[dict[str, str]]:
    path = "jsonpath={.status.volumes}"
    text = library.cluster.kubectl.run(
        "get", "knowledgebeast", library.name, f"--namespace={library.namespace}", f"--output={path}"
    )
    return cast("list[dict[str, str]]", json.loads(text))


def is_rolled_out(library: Library) -> bool:
    found = library.cluster.api.get(Deployment, library.name, library.namespace)
    return found is not None and found.is_rolled_out
