"""The account of what the operator wrote: each write has its reason, or it is a problem."""

from datetime import UTC, datetime, timedelta

import pytest

from harness.audit import OPERATOR, Call
from harness.install import OPERATOR as OPERATOR_LEASE
from harness.install import OPERATOR_NAMESPACE
from harness.kinds import Attempt
from harness.side_effects import side_effects

BEGAN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NAMESPACE, NAME = "search", "demo"
OWNER = "kubernetes-admin"


def attempt(
    action: str,
    name: str = "demo-chroma-0",
    *,
    pods: tuple[str, ...] = (),
    has_acted: bool = True,
    has_report: bool = False,
    number: int = 1,
) -> Attempt:
    return Attempt.model_validate(
        {
            "id": f"demo-incident-0001-{number}",
            "option": "AnOption",
            "action": {"type": action, "target": {"name": name}, "pods": [{"name": pod} for pod in pods]},
            "started": BEGAN,
            **({"acted": BEGAN + timedelta(seconds=1)} if has_acted else {}),
            **({"report": {"ok": True}} if has_report else {}),
        }
    )


def call(
    verb: str,
    resource: str,
    name: str,
    *,
    user: str = OPERATOR,
    code: int = 200,
    namespace: str = NAMESPACE,
    subresource: str = "",
    pod: str = "",
) -> Call:
    return Call.model_validate(
        {
            "stage": "ResponseComplete",
            "verb": verb,
            "user": {"username": user, "extra": {"authentication.kubernetes.io/pod-name": [pod]}},
            "objectRef": {"resource": resource, "subresource": subresource, "namespace": namespace, "name": name},
            "responseStatus": {"code": code},
            "requestReceivedTimestamp": BEGAN,
        }
    )


def problems(calls: list[Call], *attempts: Attempt) -> list[str]:
    return list(side_effects(calls, NAMESPACE, NAME, attempts))


PUT = call("patch", "configmaps", "demo-overlays")
DEPLOYMENT = call("patch", "deployments", "demo")


def test_a_restart_deletes_the_pod_that_it_names_once() -> None:
    deletion = call("delete", "pods", "demo-chroma-0")
    assert problems([deletion], attempt("RestartPod")) == []
    assert problems([deletion, deletion], attempt("RestartPod")) == [
        "pod demo-chroma-0 was deleted 2 times, and 1 attempts name it"
    ]
    assert problems([deletion, deletion], attempt("RestartPod"), attempt("RestartPod", number=2)) == []
    assert problems([deletion], attempt("RestartPod", "demo-chroma-1"))
    assert problems([deletion], attempt("RestartPod", has_acted=False))


def test_a_rolling_restart_deletes_the_pods_that_it_names_and_no_other() -> None:
    rolling = attempt("RollingRestart", "demo", pods=("demo-a", "demo-b"))
    both = [call("delete", "pods", "demo-a"), call("delete", "pods", "demo-b")]
    assert problems(both, rolling) == []
    assert problems([*both, call("delete", "pods", "demo-c")], rolling)
    assert problems([*both, call("delete", "pods", "demo-chroma-0")], rolling)


@pytest.mark.parametrize("resource", ["persistentvolumeclaims", "deployments", "jobs", "knowledgebeasts"])
def test_nothing_else_is_ever_deleted(resource: str) -> None:
    assert problems([call("delete", resource, "demo-database")], attempt("RestartPod", "demo-database"))
    assert problems([call("deletecollection", "pods", "")], attempt("RestartPod", ""))


def test_refused_calls_and_those_of_others_do_not_count() -> None:
    others = [call("delete", "persistentvolumeclaims", "demo-database", user=OWNER)]
    refused = [call("delete", "persistentvolumeclaims", "demo-database", code=403)]
    elsewhere = [call("delete", "pods", "demo-chroma-0", namespace="other"), call("delete", "pods", "other-chroma-0")]
    assert problems([*others, *refused, *elsewhere]) == []


@pytest.mark.parametrize("action", ["RunTask", "RunFencedTask"])
def test_a_task_makes_the_job_of_its_name_once(action: str) -> None:
    job = call("create", "jobs", "demo-incident-0001-1")
    fence = [PUT, PUT] if action == "RunFencedTask" else []
    done = attempt(action, has_report=True)
    assert problems([job, *fence], done) == []
    assert problems([job, job, *fence], done) == ["Job demo-incident-0001-1 was made 2 times"]
    assert problems(fence, done) == ["no Job of attempt demo-incident-0001-1 was made"]
    assert problems([job], attempt("RestartPod"))


def test_overlays_are_put_once_and_end_once() -> None:
    put = attempt("SetFields", "demo")
    assert problems([PUT], put) == []
    assert problems([PUT, PUT], put) == []
    assert problems([PUT, PUT, PUT], put)
    assert problems([PUT])
    assert problems([], put)


def test_each_overlay_patches_each_operand_once() -> None:
    put, claim = attempt("SetFields", "demo"), call("patch", "persistentvolumeclaims", "demo-database")
    assert problems([PUT, DEPLOYMENT, claim], put) == []
    assert problems([PUT, DEPLOYMENT, DEPLOYMENT], put) == ["deployments demo was written to 2 times for 1 reasons"]
    assert problems([PUT, claim, claim], put)
    assert problems([DEPLOYMENT])


def test_what_others_change_is_a_reason() -> None:
    assert problems([call("patch", "knowledgebeasts", "demo", user=OWNER), DEPLOYMENT]) == []
    assert problems([call("patch", "deployments", "demo", user=OWNER, subresource="scale"), DEPLOYMENT]) == []
    assert problems([call("patch", "deployments", "other", user=OWNER), DEPLOYMENT])


def test_an_operator_that_begins_to_lead_applies_everything_once() -> None:
    def renewed(pod: str) -> Call:
        return call("update", "leases", OPERATOR_LEASE, namespace=OPERATOR_NAMESPACE, pod=pod)

    assert problems([renewed("a"), renewed("b"), renewed("b"), DEPLOYMENT]) == []
    assert problems([renewed("a"), renewed("b"), renewed("b"), DEPLOYMENT, DEPLOYMENT])
    assert problems([renewed("a"), renewed("a"), DEPLOYMENT])


def test_a_status_is_a_reason_only_where_there_is_no_generation() -> None:
    resizer = "system:serviceaccount:kube-system:kube-csi-resizer"
    grown = call("patch", "persistentvolumeclaims", "demo-database", user=resizer, subresource="status")
    assert problems([grown, call("patch", "persistentvolumeclaims", "demo-database")]) == []
    assert problems([call("update", "deployments", "demo", user=resizer, subresource="status"), DEPLOYMENT])


def test_fields_are_put_back_by_the_attempt_that_names_the_service() -> None:
    service = call("patch", "services", "demo-chroma")
    assert problems([service], attempt("PutFields", "demo-chroma")) == []
    assert problems([service], attempt("PutFields", "another"))


def test_the_object_is_its_owners() -> None:
    owner = call("patch", "knowledgebeasts", "demo", user=OWNER)
    assert problems([owner, call("patch", "knowledgebeasts", "demo")]) == ["KnowledgeBeast demo was written to 1 times"]
    assert problems([call("patch", "knowledgebeasts", "demo", subresource="status")]) == []
