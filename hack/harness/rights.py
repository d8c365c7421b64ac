"""What a service account may do, from the roles bound to it, and what it did, from the audit log."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field

from harness.audit import Call
from harness.cluster import Cluster
from harness.objects import Part, Resource

CREATED = 201
RBAC = "/apis/rbac.authorization.k8s.io/v1"


@dataclass(frozen=True, order=True)
class Right:
    """One verb on one resource, e.g. `pods/status`, of one API group, in a namespace or ("") everywhere."""

    namespace: str
    group: str
    resource: str
    verb: str

    def __str__(self) -> str:
        kind = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.verb} {kind} in {self.namespace or 'the cluster'}"


class Rule(Part):
    api_groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    resource_names: tuple[str, ...] = ()
    non_resource_urls: tuple[str, ...] = Field(default=(), alias="nonResourceURLs")

    def rights(self, namespace: str) -> set[Right]:
        return {Right(namespace, g, r, v) for g in self.api_groups for r in self.resources for v in self.verbs}


class Role(Resource):
    prefix: ClassVar[str] = RBAC
    plural: ClassVar[str] = "roles"
    rules: tuple[Rule, ...] = ()


class ClusterRole(Role):
    plural: ClassVar[str] = "clusterroles"


class RoleRef(Part):
    kind: str
    name: str


class Subject(Part):
    kind: str
    name: str
    namespace: str = ""


class RoleBinding(Resource):
    prefix: ClassVar[str] = RBAC
    plural: ClassVar[str] = "rolebindings"
    role_ref: RoleRef
    subjects: tuple[Subject, ...] = ()


class ClusterRoleBinding(RoleBinding):
    plural: ClassVar[str] = "clusterrolebindings"


def rules_of(cluster: Cluster, account: str, namespace: str) -> list[tuple[str, Rule]]:
    """The rules bound to a service account by name, each with the namespace that it holds in ("": everywhere)."""
    found: list[tuple[str, Rule]] = []
    for kind in (RoleBinding, ClusterRoleBinding):
        for binding in cluster.api.list(kind):
            if any((s.kind, s.name, s.namespace) == ("ServiceAccount", account, namespace) for s in binding.subjects):
                found += [(binding.metadata.namespace or "", rule) for rule in _rules(cluster, binding)]
    return found


def _rules(cluster: Cluster, binding: RoleBinding) -> tuple[Rule, ...]:
    is_cluster_role = binding.role_ref.kind == "ClusterRole"
    kind, namespace = (ClusterRole, None) if is_cluster_role else (Role, binding.metadata.namespace)
    role = cluster.api.get(kind, binding.role_ref.name, namespace)
    return () if role is None else role.rules


def used_rights(calls: Iterable[Call]) -> set[Right]:
    """What the calls needed, whether or not it was granted. Requests that name no resource need no right here."""
    return {
        Right(call.object_ref.namespace, call.object_ref.api_group, call.resource, verb)
        for call in calls
        if call.object_ref.resource
        for verb in _verbs(call)
    }


def _verbs(call: Call) -> tuple[str, ...]:
    """A server-side apply that made its object needed the right to create it too, and is logged as a patch."""
    return ("patch", "create") if call.verb == "patch" and call.response_status.code == CREATED else (call.verb,)
