"""Policies as a network plugin would read them, since not every cluster enforces them."""

from collections.abc import Mapping
from typing import cast

import pytest

from operand_objects import REMOTE, at, operands

Labels = Mapping[str, str]

SERVICE = {"knowledgebeast.io/name": "demo", "app.kubernetes.io/component": "service"}
CHROMA = {"knowledgebeast.io/name": "demo", "app.kubernetes.io/component": "chroma"}
JOB = {"knowledgebeast.io/name": "demo", "app.kubernetes.io/component": "maintenance"}
OTHER_SERVICE = {"knowledgebeast.io/name": "other", "app.kubernetes.io/component": "service"}
OTHER_JOB = {"knowledgebeast.io/name": "other", "app.kubernetes.io/component": "maintenance"}
STRANGER = {"app": "curl"}
DNS = {"k8s-app": "kube-dns"}


def selects(selector: object, labels: Labels) -> bool:
    terms = cast("Mapping[str, object]", selector)
    wanted = cast("Labels", terms.get("matchLabels", {}))
    expressions = cast("list[Mapping[str, object]]", terms.get("matchExpressions", []))
    return wanted.items() <= labels.items() and all(
        labels.get(str(expression["key"])) in cast("list[str]", expression["values"])
        for expression in expressions
        if expression["operator"] == "In"
    )


def rules_allow(rules: object, side: str, peer: Labels, port: int) -> bool:
    def fits(rule: Mapping[str, object]) -> bool:
        peers = cast("list[Mapping[str, object]] | None", rule.get(side))
        ports = cast("list[Mapping[str, object]] | None", rule.get("ports"))
        peer_fits = peers is None or any(selects(term["podSelector"], peer) for term in peers if "podSelector" in term)
        return peer_fits and (ports is None or any(term["port"] == port for term in ports))

    return any(fits(rule) for rule in cast("list[Mapping[str, object]]", rules))


def allowed(source: Labels, target: Labels, port: int, spec: Mapping[str, object] | None = None) -> bool:
    """Whether a connection is let through: by every policy's side that selects one of the two ends."""
    policies = [manifest for (kind, _), manifest in operands(spec).items() if kind == "NetworkPolicy"]
    leaves = [policy for policy in policies if selects(at(policy, "spec", "podSelector"), source)]
    enters = [policy for policy in policies if selects(at(policy, "spec", "podSelector"), target)]
    out = not leaves or any(rules_allow(at(policy, "spec", "egress"), "to", target, port) for policy in leaves)
    into = not enters or any(rules_allow(at(policy, "spec", "ingress"), "from", source, port) for policy in enters)
    return out and into


@pytest.mark.parametrize(
    ("source", "target", "port", "expected"),
    [
        pytest.param(SERVICE, CHROMA, 8000, True, id="the service reaches its Chroma"),
        pytest.param(JOB, CHROMA, 8000, True, id="a maintenance Job reaches Chroma"),
        pytest.param(OTHER_SERVICE, CHROMA, 8000, False, id="the service of another object does not reach Chroma"),
        pytest.param(STRANGER, CHROMA, 8000, False, id="a stranger does not reach Chroma"),
        pytest.param(SERVICE, CHROMA, 22, False, id="only Chroma's own port is open"),
        pytest.param(STRANGER, SERVICE, 8000, True, id="anybody may ask the service"),
        pytest.param(SERVICE, SERVICE, 8000, True, id="a service pod asks the service, to probe it"),
        pytest.param(STRANGER, SERVICE, 8001, False, id="the admin port is closed to strangers"),
        pytest.param(JOB, SERVICE, 8001, True, id="a maintenance Job reaches the admin port"),
        pytest.param(OTHER_JOB, SERVICE, 8001, False, id="a Job of another object does not"),
        pytest.param(SERVICE, SERVICE, 8001, False, id="nor does a service pod"),
        pytest.param(STRANGER, SERVICE, 8002, False, id="another port of the service is closed"),
        pytest.param(SERVICE, DNS, 53, True, id="the service resolves names"),
        pytest.param(SERVICE, DNS, 1053, True, id="also where cluster DNS listens on a port of its own"),
        pytest.param(SERVICE, STRANGER, 443, False, id="the service calls nobody else"),
        pytest.param(JOB, STRANGER, 443, False, id="a Job calls nobody else"),
        pytest.param(CHROMA, STRANGER, 443, False, id="Chroma calls nobody"),
        pytest.param(CHROMA, SERVICE, 8000, False, id="Chroma does not call the service"),
    ],
)
def test_who_reaches_whom(source: Labels, target: Labels, port: int, expected: bool) -> None:
    assert allowed(source, target, port) is expected


COPIED: Mapping[str, object] = {"database": {"backup": {"remote": REMOTE}}}
FETCHED: Mapping[str, object] = {"bootstrap": {"restoreFrom": {"remote": {**REMOTE, "endpoint": "http://10.0.0.1"}}}}
AT_AWS: Mapping[str, object] = {"database": {"backup": {"remote": {**REMOTE, "endpoint": None}}}}


@pytest.mark.parametrize(
    ("spec", "task", "target", "port", "expected"),
    [
        pytest.param({}, "backup", STRANGER, 9000, False, id="without object storage a backup calls nobody"),
        pytest.param(COPIED, "backup", STRANGER, 9000, True, id="a backup reaches its storage"),
        pytest.param(COPIED, "backup", STRANGER, 443, False, id="and nothing on another port"),
        pytest.param(COPIED, "check", STRANGER, 9000, False, id="a check does not"),
        pytest.param(FETCHED, "restore", STRANGER, 80, True, id="a new object reaches the storage that it begins from"),
        pytest.param(AT_AWS, "backup", STRANGER, 443, True, id="AWS is reached by HTTPS"),
        pytest.param(COPIED, "backup", OTHER_SERVICE, 8001, False, id="who may come in is decided there"),
    ],
)
def test_only_backups_and_restores_reach_object_storage(
    spec: Mapping[str, object], task: str, target: Labels, port: int, expected: bool
) -> None:
    assert allowed({**JOB, "knowledgebeast.io/task": task}, target, port, spec) is expected


def test_without_object_storage_nothing_is_opened() -> None:
    assert at(operands()["NetworkPolicy", "demo-remote"], "spec", "egress") == []


def test_a_storage_behind_a_service_of_the_cluster_is_reached_on_its_pods_own_port() -> None:
    rules = cast("list[Mapping[str, object]]", at(operands(COPIED)["NetworkPolicy", "demo-remote"], "spec", "egress"))
    assert {"to": [{"namespaceSelector": {}}]} in rules


def test_both_directions_are_governed() -> None:
    for (kind, name), manifest in operands().items():
        if kind == "NetworkPolicy" and name != "demo-remote":  # which only adds to what the first one lets out
            assert at(manifest, "spec", "policyTypes") == ["Ingress", "Egress"]
