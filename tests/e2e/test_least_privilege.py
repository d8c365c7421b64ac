"""What the operator may do, against what it did in all the scenarios before this one."""

from datetime import datetime

import pytest

from harness.audit import OPERATOR as USER
from harness.audit import AuditLog, Call
from harness.cluster import Cluster
from harness.errors import CommandError
from harness.install import OPERATOR, OPERATOR_NAMESPACE, Installation
from harness.rights import Right, Rule, rules_of, used_rights

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

NOT_EXERCISED = {
    # 50 resolved Incidents are kept for 90 days before the operator removes one.
    ("incidents", "delete"),
    # A maintenance Job is stopped when its image cannot be pulled for two minutes, or its Incident is deleted.
    ("jobs", "patch"),
}
"""Rights that no scenario here can use, each with the reason."""


@pytest.fixture(scope="module")
def calls(audit: AuditLog, installation_began: datetime) -> list[Call]:
    return audit.calls(since=installation_began, user=USER)


@pytest.fixture(scope="module")
def rules(cluster: Cluster, installation: Installation) -> list[tuple[str, Rule]]:
    """Where this session used it; a namespace of an earlier demonstration may still be bound."""
    here = {"", OPERATOR_NAMESPACE, *installation.namespaces}
    return [(where, rule) for where, rule in rules_of(cluster, OPERATOR, OPERATOR_NAMESPACE) if where in here]


@pytest.fixture(scope="module")
def granted(rules: list[tuple[str, Rule]]) -> set[Right]:
    return {right for namespace, rule in rules for right in rule.rights(namespace)}


def test_it_was_refused_nothing(calls: list[Call]) -> None:
    assert len(calls) > 100
    assert [str(call) for call in calls if not call.is_granted] == []


def test_it_uses_every_right_that_it_has(calls: list[Call], granted: set[Right]) -> None:
    unused = granted - used_rights(calls)

    assert sorted(str(right) for right in unused if (right.resource, right.verb) not in NOT_EXERCISED) == []


def test_there_is_no_wildcard_no_secret_and_no_exec(rules: list[tuple[str, Rule]], granted: set[Right]) -> None:
    words = {word for _, rule in rules for word in (*rule.api_groups, *rule.resources, *rule.verbs)}

    assert "*" not in words
    assert {right.resource for right in granted} & {"secrets", "pods/exec", "pods/attach", "pods/portforward"} == set()
    assert [rule for _, rule in rules if rule.non_resource_urls] == []


def test_outside_its_namespaces_it_only_reads(granted: set[Right]) -> None:
    everywhere = {right.verb for right in granted if not right.namespace}

    assert everywhere <= {"get", "list", "watch"}


@pytest.mark.parametrize("verb", ["get", "list", "watch"])
def test_it_cannot_read_secrets(cluster: Cluster, installation: Installation, verb: str) -> None:
    for namespace in (*installation.namespaces, OPERATOR_NAMESPACE, "kube-system"):
        assert not _can(cluster, verb, "secrets", namespace)


def test_it_cannot_act_in_other_namespaces(cluster: Cluster, installation: Installation) -> None:
    for namespace in installation.namespaces:
        assert _can(cluster, "delete", "pods", namespace), "the question itself is wrong"
        assert not _can(cluster, "create", "pods/exec", namespace)
    assert not _can(cluster, "delete", "pods", "kube-system")
    assert not _can(cluster, "delete", "pods", OPERATOR_NAMESPACE)


def _can(cluster: Cluster, verb: str, resource: str, namespace: str) -> bool:
    """Asks the API server about the operator; kubectl ends with an error for a no."""
    try:
        cluster.kubectl.run("auth", "can-i", verb, resource, f"--namespace={namespace}", f"--as={USER}", "--quiet")
    except CommandError:
        return False
    return True
