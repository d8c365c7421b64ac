"""The operator as processes on this machine against a real API server, without its image and without Chroma.

Pods are kept off all nodes by a node selector; where a scenario needs them, this test says what a kubelet would say,
and a fake Prometheus what it would have scraped. What is real: the API server, its garbage collector, the controllers
of Deployments and StatefulSets, server-side apply, the Lease, watches, and the audit log that counts the writes.
"""

import json
import signal
import uuid
from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from api_proxy import ApiProxy
from fake_prometheus import FakePrometheus
from harness.audit import AuditLog, Call, now, pod_deletions
from harness.cluster import Cluster
from harness.kinds import Incident, KnowledgeBeast
from harness.objects import Claim, Deployment, KubeEvent, Lease, Pod, Service, StatefulSet
from harness.wait import stays, wait_for
from operator_process import LEASE_SECONDS, RENEW_SECONDS, OperatorProcess

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

CRDS = Path(__file__).parents[2] / "crds"
NAME = "wired"
NOWHERE = {"knowledgebeast.io/test": "nowhere"}
LABELS = f"knowledgebeast.io/name={NAME}"
MAX_UPDATES = 12  # of an incident that is over in half a minute; 5 were seen
NO_OPERANDS = frozenset({"events", "incidents", "knowledgebeasts", "leases"})
SPEC = {
    "service": {"replicas": 1, "podTemplate": {"nodeSelector": NOWHERE}, "config": {"canaryIntervalSeconds": 1}},
    "chroma": {"storage": {"size": "64Mi"}},
    "database": {"storage": {"size": "64Mi"}},
    "remediation": {
        "runbooks": [
            {
                "name": "ChromaUnreachable",
                "window": "15s",
                "for": "5s",
                "settle": "5s",
                "healthyPeriod": "5s",
                "verifyTimeout": "30s",
            }
        ]
    },
}

StartOperator = Callable[..., OperatorProcess]


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Generator[str]:
    name = f"wiring-{uuid.uuid4().hex[:8]}"
    cluster.kubectl.run("apply", "-k", str(CRDS))
    kinds = [f"crd/{kind}.knowledgebeast.io" for kind in ("knowledgebeasts", "incidents", "incidentapprovals")]
    cluster.kubectl.run("wait", "--for=condition=Established", "--timeout=30s", *kinds)
    cluster.kubectl.run("create", "namespace", name)
    yield name
    for item in cluster.api.list(KnowledgeBeast, name):  # no operator is left to take the finalizer off
        cluster.kubectl.patch("knowledgebeast", item.name, name, {"metadata": {"finalizers": None}})
    cluster.kubectl.run("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def prometheus(cluster: Cluster, namespace: str) -> Generator[FakePrometheus]:
    def service_pods() -> list[str]:
        labels = f"{LABELS},app.kubernetes.io/component=service"
        return [pod.name for pod in cluster.api.list(Pod, namespace, labels=labels)]

    with FakePrometheus(namespace, service_pods) as fake:
        well(fake)
        yield fake


@pytest.fixture(scope="module")
def start_operator(
    cluster: Cluster, namespace: str, prometheus: FakePrometheus, tmp_path_factory: pytest.TempPathFactory
) -> Generator[StartOperator]:
    started: list[OperatorProcess] = []
    folder = tmp_path_factory.mktemp("operators")

    def start(identity: str, kubeconfig: Path | None = None, **environment: str) -> OperatorProcess:
        made = OperatorProcess(
            f"{identity}-{namespace}",
            namespace,
            kubeconfig or cluster.kubectl.kubeconfig,
            prometheus.url,
            folder / f"{identity}.log",
            environment,
        )
        started.append(made)
        return made.start()

    yield start
    for process in started:
        process.end()


@pytest.fixture(scope="module")
def operators(start_operator: StartOperator) -> list[OperatorProcess]:
    """The operators that `operator` has started; the last one is used again while it lives."""
    return []


@pytest.fixture
def operator(
    operators: list[OperatorProcess], start_operator: StartOperator, namespace: str, cluster: Cluster
) -> OperatorProcess:
    """One operator that leads, and the object with its operands."""
    if not operators or not operators[-1].is_alive:
        operators.append(start_operator(f"op-{uuid.uuid4().hex[:4]}"))
    process = operators[-1]
    process.wait_until_leading()
    apply_object(cluster, namespace)
    wait_until_applied(cluster, namespace, process)
    return process


def well(fake: FakePrometheus) -> None:
    fake.set("kb_chroma_breaker_state", 0)
    fake.set("kb_canary_success_ratio", 1)
    fake.set("kb_degraded_mode", 0)
    fake.set("kb_database_errors_total", 0)
    fake.set("kb_component_up", 1)


def broken(fake: FakePrometheus) -> None:
    fake.set("kb_chroma_breaker_state", 2)
    fake.set("kb_canary_success_ratio", 0)
    fake.set("kb_degraded_mode", 1)


def apply_object(cluster: Cluster, namespace: str, **remediation: object) -> None:
    spec = {**SPEC, "remediation": {**SPEC["remediation"], **remediation}}
    manifest = {
        "apiVersion": "knowledgebeast.io/v1alpha1",
        "kind": "KnowledgeBeast",
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": spec,
    }
    cluster.kubectl.apply(yaml.safe_dump(manifest))


def wait_until_applied(cluster: Cluster, namespace: str, process: OperatorProcess) -> KnowledgeBeast:
    def probe() -> KnowledgeBeast | None:
        found = cluster.api.get(KnowledgeBeast, NAME, namespace)
        return found if found is not None and found.has("OperandsApplied", "True") else None

    return wait_for("operands that are applied", probe, timeout=30, explain=process.tail)


def writes(audit: AuditLog, since: datetime, namespace: str, *, to_operands: bool) -> list[Call]:
    """What operator processes of this namespace wrote, told from everybody else by their user agents."""
    return [
        call
        for call in audit.calls(since=since)
        if call.is_write
        and call.object_ref.namespace == namespace
        and call.object_ref.resource != "leases"
        and ("knowledgebeast-operator" in call.user_agent or "kopf" in call.user_agent)
        and (call.object_ref.resource not in NO_OPERANDS or not to_operands)
    ]


def condition(cluster: Cluster, namespace: str, kind: str) -> str:
    """`status/reason` of a condition of the object."""
    found = cluster.api.get(KnowledgeBeast, NAME, namespace)
    shown = found.condition(kind) if found else None
    return f"{shown.status}/{shown.reason}" if shown else "absent"


def say_running(cluster: Cluster, namespace: str, pod: str, container: str) -> None:
    """What a kubelet would report about a pod that has run for two minutes."""
    started = (datetime.now(UTC) - timedelta(minutes=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    status = {
        "phase": "Running",
        "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": started},
            {"type": "Ready", "status": "True", "lastTransitionTime": started},
        ],
        "containerStatuses": [
            {
                "name": container,
                "image": "test",
                "imageID": "",
                "ready": True,
                "restartCount": 0,
                "state": {"running": {"startedAt": started}},
            }
        ],
    }
    patch = json.dumps({"status": status})
    cluster.kubectl.run("patch", "pod", pod, f"--namespace={namespace}", "--subresource=status", f"--patch={patch}")


def pods(cluster: Cluster, namespace: str, component: str) -> list[Pod]:
    labels = f"{LABELS},app.kubernetes.io/component={component}"
    return list(cluster.api.list(Pod, namespace, labels=labels))


def test_operands_appear(cluster: Cluster, namespace: str, operator: OperatorProcess) -> None:
    assert cluster.api.get(Deployment, NAME, namespace) is not None
    assert cluster.api.get(StatefulSet, f"{NAME}-chroma", namespace) is not None
    services = {item.name for item in cluster.api.list(Service, namespace, labels=LABELS)}
    assert services == {NAME, f"{NAME}-chroma", f"{NAME}-admin"}
    claims = {item.name for item in cluster.api.list(Claim, namespace, labels=LABELS)}
    assert claims == {f"{NAME}-database", f"{NAME}-backups", f"{NAME}-chroma"}
    found = cluster.api.get(KnowledgeBeast, NAME, namespace)
    assert found is not None
    kinds = {item.type for item in found.status.conditions}
    assert {"Ready", "Degraded", "SignalsAvailable", "RemediationAllowed", "ChromaUnreachable"} <= kinds
    assert operator.health() == 200


def test_a_quiet_object_is_not_written(
    cluster: Cluster, namespace: str, operator: OperatorProcess, audit: AuditLog
) -> None:
    operator.wait_for_ticks(5)
    since = now()
    operator.wait_for_ticks(10)
    assert [str(call) for call in writes(audit, since, namespace, to_operands=False)] == []


def test_a_field_of_somebody_else_is_reported_and_not_fought_over(
    cluster: Cluster, namespace: str, operator: OperatorProcess, audit: AuditLog
) -> None:
    cluster.kubectl.run("set", "image", f"deployment/{NAME}", "service=someone/elses:image", f"--namespace={namespace}")
    wait_for(
        "the conflict to be reported",
        lambda: condition(cluster, namespace, "OperandsApplied") == "False/ApplyConflict",
        timeout=20,
        explain=operator.tail,
    )
    found = cluster.api.get(KnowledgeBeast, NAME, namespace)
    shown = found.condition("OperandsApplied") if found else None
    assert shown is not None
    assert "image" in shown.message
    assert "kubectl-set" in shown.message
    assert operator.metric("knowledgebeast_operand_conflicts") == 1
    reasons = [event.reason for event in cluster.api.list(KubeEvent, namespace) if event.involved_object.name == NAME]
    assert "ApplyConflict" in reasons
    operator.wait_for_ticks(2)
    since = now()
    operator.wait_for_ticks(5)
    assert [str(call) for call in writes(audit, since, namespace, to_operands=True)] == []
    images = cluster.kubectl.run(
        "get", "deployment", NAME, f"--namespace={namespace}", "-o=jsonpath={.spec.template.spec.containers[*].image}"
    )
    assert images == "someone/elses:image"
    # the field is handed back by setting it to what the spec asks
    image = cluster.kubectl.run(
        "get", "statefulset", f"{NAME}-chroma", f"--namespace={namespace}",
        "-o=jsonpath={.spec.template.spec.containers[*].image}",
    )  # fmt: skip
    cluster.kubectl.run("set", "image", f"deployment/{NAME}", f"service={image}", f"--namespace={namespace}")
    wait_until_applied(cluster, namespace, operator)


def test_with_the_kill_switch_no_operand_is_written(
    cluster: Cluster, namespace: str, operator: OperatorProcess, audit: AuditLog
) -> None:
    apply_object(cluster, namespace, mode="Disabled")
    wait_for(
        "the switch to be seen",
        lambda: condition(cluster, namespace, "RemediationAllowed") == "False/Disabled",
        timeout=20,
        explain=operator.tail,
    )
    since = now()
    cluster.kubectl.delete("service", f"{NAME}-chroma", namespace)
    cluster.kubectl.run("scale", f"deployment/{NAME}", "--replicas=3", f"--namespace={namespace}")
    operator.wait_for_ticks(8)
    assert [str(call) for call in writes(audit, since, namespace, to_operands=True)] == []
    assert cluster.api.get(Service, f"{NAME}-chroma", namespace) is None

    cluster.kubectl.run("scale", f"deployment/{NAME}", "--replicas=1", f"--namespace={namespace}")
    apply_object(cluster, namespace)
    wait_for(
        "the Service to come back",
        lambda: cluster.api.get(Service, f"{NAME}-chroma", namespace),
        timeout=20,
        explain=operator.tail,
    )


def test_a_deleted_operand_comes_back(cluster: Cluster, namespace: str, operator: OperatorProcess) -> None:
    cluster.kubectl.delete("service", NAME, namespace)
    wait_for("the Service", lambda: cluster.api.get(Service, NAME, namespace), timeout=15, explain=operator.tail)


def test_claims_outlive_the_object_and_are_adopted(cluster: Cluster, namespace: str, operator: OperatorProcess) -> None:
    before = {item.name: item.uid for item in cluster.api.list(Claim, namespace, labels=LABELS)}
    cluster.kubectl.delete("knowledgebeast", NAME, namespace, timeout=20)
    wait_for(
        "the garbage collector to remove the Deployment",
        lambda: cluster.api.get(Deployment, NAME, namespace) is None,
        timeout=60,
    )
    stays(
        "the claims to be kept",
        lambda: {item.name: item.uid for item in cluster.api.list(Claim, namespace, labels=LABELS)} == before,
        seconds=5,
    )
    apply_object(cluster, namespace)
    wait_until_applied(cluster, namespace, operator)
    assert {item.name: item.uid for item in cluster.api.list(Claim, namespace, labels=LABELS)} == before


def test_an_object_deleted_while_no_operator_ran_goes_when_one_comes(
    cluster: Cluster, namespace: str, operator: OperatorProcess, start_operator: StartOperator
) -> None:
    assert operator.end() == 0
    cluster.kubectl.run("delete", "knowledgebeast", NAME, f"--namespace={namespace}", "--wait=false")
    stays(
        "the finalizer to hold the object",
        lambda: cluster.api.get(KnowledgeBeast, NAME, namespace) is not None,
        seconds=3,
    )
    successor = start_operator("successor")
    successor.wait_until_leading()
    wait_for(
        "the object to go",
        lambda: cluster.api.get(KnowledgeBeast, NAME, namespace) is None,
        timeout=15,
        explain=successor.tail,
    )
    successor.end()


@pytest.fixture
def proxied(
    cluster: Cluster, operator: OperatorProcess, start_operator: StartOperator, tmp_path: Path
) -> Generator[tuple[OperatorProcess, ApiProxy]]:
    """An operator that leads and reaches the API server through a proxy."""
    operator.end()
    with ApiProxy(cluster.kubectl.kubeconfig, tmp_path) as proxy:
        process = start_operator(f"proxied-{uuid.uuid4().hex[:4]}", proxy.kubeconfig, KB_WATCH_STALE_SECONDS="6")
        process.wait_until_leading()
        wait_for("a first tick", lambda: process.ticks() > 0, timeout=20, explain=process.tail)
        stays("it to be well", lambda: process.health() == 200, seconds=8, interval=1)
        yield process, proxy
        process.end()


def test_a_silent_watch_fails_the_probe(
    cluster: Cluster, namespace: str, proxied: tuple[OperatorProcess, ApiProxy]
) -> None:
    """The connection stands, nothing comes, and kopf goes on with what it saw last."""
    process, proxy = proxied
    proxy.freeze_watches("knowledgebeasts")
    cluster.kubectl.run("label", "knowledgebeast", NAME, f"--namespace={namespace}", "touched=yes")
    wait_for("the probe to fail", lambda: process.health() == 500, timeout=30, explain=process.tail)
    staleness = process.metric('knowledgebeast_watch_staleness_seconds{kind="knowledgebeasts"}')
    assert staleness is not None
    assert staleness > 0


def test_a_refused_watch_ends_the_process(proxied: tuple[OperatorProcess, ApiProxy]) -> None:
    """kopf cannot take up the watch again; the kubelet starts the operator anew."""
    process, proxy = proxied
    proxy.kill_watches("pods", 410)
    wait_for("the process to end", lambda: not process.is_alive, timeout=90, explain=process.tail)
    assert process.end() != 0


def test_a_standby_takes_over(
    cluster: Cluster, namespace: str, operator: OperatorProcess, start_operator: StartOperator
) -> None:
    second = start_operator("second")
    wait_for("the second to stand by", lambda: second.stands_by and second.health() == 200, timeout=20)
    stays("the second to stand by", lambda: second.stands_by and operator.leads, seconds=2 * LEASE_SECONDS)

    operator.end(signal.SIGKILL)
    took = second.wait_until_leading(timeout=LEASE_SECONDS + 2 * RENEW_SECONDS + 3)
    assert took > LEASE_SECONDS / 3, "it took the lease before it can have expired"
    second.wait_for_ticks(2)

    third = start_operator("third")
    wait_for("the third to stand by", lambda: third.stands_by, timeout=20)
    assert second.end(signal.SIGTERM) == 0
    assert third.wait_until_leading(timeout=2 * RENEW_SECONDS + 2) < LEASE_SECONDS
    lease = cluster.api.get(Lease, "knowledgebeast-operator", namespace)
    assert lease is not None
    assert lease.spec.holder_identity == third.identity
    assert third.end() == 0


def test_a_hung_chroma_is_restarted_once_and_the_incident_is_kept(
    cluster: Cluster, namespace: str, operator: OperatorProcess, prometheus: FakePrometheus, audit: AuditLog
) -> None:
    chroma = f"{NAME}-chroma-0"
    service = wait_for("a service pod", lambda: pods(cluster, namespace, "service"), timeout=30)[0].name
    before = wait_for("Chroma's pod", lambda: cluster.pod(chroma, namespace), timeout=30)
    say_running(cluster, namespace, service, "service")
    say_running(cluster, namespace, chroma, "chroma")
    wait_for(
        "a healthy beginning",
        lambda: condition(cluster, namespace, "ChromaUnreachable") == "False/NotDetected",
        timeout=30,
        explain=operator.tail,
    )
    since = now()
    broken(prometheus)

    def replaced() -> Pod | None:
        found = cluster.pod(chroma, namespace)
        return found if found is not None and found.uid != before.uid else None

    wait_for("a new pod of Chroma", replaced, timeout=30, explain=operator.tail)
    say_running(cluster, namespace, chroma, "chroma")
    well(prometheus)

    def resolved() -> Incident | None:
        found = cluster.api.list(Incident, namespace)
        return found[-1] if found and found[-1].status.resolved_at is not None else None

    incident = wait_for("the incident to close", resolved, timeout=60, explain=operator.tail)
    assert [attempt.outcome for attempt in incident.status.attempts] == ["Successful"]
    assert incident.status.attempts[0].action.target.uid == before.uid
    assert len(pod_deletions(audit.calls(since=since), chroma)) == 1
    updates = [
        call
        for call in audit.calls(since=since)
        if call.resource == "incidents/status" and call.object_ref.namespace == namespace
    ]
    assert len(updates) <= MAX_UPDATES, "the record is written again and again though nothing happens"
    told = [entry.reason for entry in incident.status.timeline]
    assert told[:3] == ["IncidentDetected", "RemediationBegun", "RemediationCarriedOut"]
    assert told[-1] == "IncidentResolved"
    reasons = {event.reason for event in cluster.api.list(KubeEvent, namespace) if event.involved_object.name == NAME}
    assert {"IncidentDetected", "RemediationCarriedOut", "RemediationSucceeded", "IncidentResolved"} <= reasons
    labels = 'incident="ChromaUnreachable",option="RestartChroma",outcome="Successful"'
    assert operator.metric(f"knowledgebeast_remediation_attempts_total{{{labels}}}") == 1
    assert operator.metric('knowledgebeast_incident_open{incident="ChromaUnreachable",severity="P0"}') == 0

    cluster.kubectl.delete("knowledgebeast", NAME, namespace, timeout=20)
    assert [item.name for item in cluster.api.list(Incident, namespace)] == [incident.name]


def test_an_incident_that_is_open_when_its_object_is_deleted_is_closed(
    cluster: Cluster, namespace: str, operator: OperatorProcess, prometheus: FakePrometheus
) -> None:
    cluster.kubectl.patch("knowledgebeast", NAME, namespace, {"spec": {"remediation": {"mode": "DryRun"}}})
    service = wait_for("a service pod", lambda: pods(cluster, namespace, "service"), timeout=30)[0].name
    wait_for("Chroma's pod", lambda: cluster.pod(f"{NAME}-chroma-0", namespace), timeout=30)
    say_running(cluster, namespace, service, "service")
    say_running(cluster, namespace, f"{NAME}-chroma-0", "chroma")
    broken(prometheus)

    def is_open() -> Incident | None:
        found = cluster.api.list(Incident, namespace)  # those of the tests before stay
        return next((one for one in found if one.status.resolved_at is None), None)

    opened = wait_for("an incident", is_open, timeout=60, explain=operator.tail)
    cluster.kubectl.delete("knowledgebeast", NAME, namespace, timeout=20)
    well(prometheus)
    incident = cluster.api.get(Incident, opened.name, namespace)
    assert incident is not None
    assert incident.status.resolved_at is not None
    assert incident.status.timeline[-1].reason == "ObjectDeleted"


def missing_signals(cluster: Cluster, namespace: str) -> str:
    """What the object says about signals that it has no series of."""
    found = cluster.api.get(KnowledgeBeast, NAME, namespace)
    shown = found.condition("SignalsAvailable") if found else None
    is_missing = shown is not None and (shown.status, shown.reason) == ("False", "NoSeries")
    return shown.message if shown is not None and is_missing else ""


def test_without_signals_nothing_is_done_and_the_query_is_named(
    cluster: Cluster, namespace: str, operator: OperatorProcess, prometheus: FakePrometheus, audit: AuditLog
) -> None:
    service = wait_for("a service pod", lambda: pods(cluster, namespace, "service"), timeout=30)[0].name
    wait_for("Chroma's pod", lambda: cluster.pod(f"{NAME}-chroma-0", namespace), timeout=30)
    say_running(cluster, namespace, service, "service")
    say_running(cluster, namespace, f"{NAME}-chroma-0", "chroma")
    since = now()
    prometheus.hidden.add("kb_chroma_breaker_state")
    try:
        wait_for(
            "the missing signal to be named",
            lambda: "kb_chroma_breaker_state[" in missing_signals(cluster, namespace),
            timeout=60,
            explain=operator.tail,
        )
        assert pod_deletions(audit.calls(since=since), f"{NAME}-chroma-0") == []
    finally:
        prometheus.hidden.clear()


def test_with_deletion_policy_delete_the_claims_go_too(
    cluster: Cluster, namespace: str, operator: OperatorProcess
) -> None:
    cluster.kubectl.patch("knowledgebeast", NAME, namespace, {"spec": {"deletionPolicy": "Delete"}})
    wait_for(
        "the claims to be owned",
        lambda: all(item.metadata.owner_references for item in cluster.api.list(Claim, namespace, labels=LABELS)),
        timeout=15,
        explain=operator.tail,
    )
    cluster.kubectl.delete("knowledgebeast", NAME, namespace, timeout=20)
    wait_for(
        "the claims to go",
        lambda: not cluster.api.list(Claim, namespace, labels=LABELS),
        timeout=60,
        explain=lambda: cluster.explain(namespace),
    )
