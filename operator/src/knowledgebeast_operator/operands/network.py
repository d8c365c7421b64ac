"""The addresses inside the cluster, and who may talk to whom.

Policies hold only where the cluster's network enforces them; many small clusters take them and do nothing.
"""

from typing import Final

from knowledgebeast_operator.custom_resource import KnowledgeBeast, names
from knowledgebeast_operator.custom_resource.names import (
    CHROMA,
    COMPONENT_LABEL,
    MAINTENANCE,
    NAME_LABEL,
    SERVICE,
    TASK_LABEL,
)
from knowledgebeast_operator.custom_resource.object_storage import ObjectStorage
from knowledgebeast_operator.operands import pods
from knowledgebeast_operator.operands.bootstrap import TASK as RESTORE
from knowledgebeast_operator.operands.cron_jobs import BACKUP
from knowledgebeast_operator.operands.manifest import Manifest, metadata

_HTTP: Final[list[Manifest]] = [{"protocol": "TCP", "port": pods.HTTP_PORT}]

_HTTP_SERVED: Final[Manifest] = {"name": "http", "port": pods.HTTP_PORT, "targetPort": "http", "protocol": "TCP"}

_ADMIN: Final[list[Manifest]] = [{"protocol": "TCP", "port": pods.ADMIN_PORT}]

_DNS: Final[list[Manifest]] = [
    {"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]},
    # A policy sees the port of the pod behind the Service, and cluster DNS often listens on another one there.
    {"to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}]},
]


def services(kb: KnowledgeBeast) -> list[Manifest]:
    """The service's address and Chroma's, and for Jobs the address of each service pod's admin port.

    Only ready pods are behind them: while Chroma is down a connection is refused at once instead of timing out.
    """
    admin = {"name": "admin", "port": pods.ADMIN_PORT, "targetPort": "admin", "protocol": "TCP"}
    return [
        _service(kb, names.service_name(kb.name), SERVICE, _HTTP_SERVED),
        _service(kb, names.chroma_name(kb.name), CHROMA, _HTTP_SERVED),
        # Headless: a Job that has to speak to every pod gets all their addresses from DNS.
        _service(kb, names.admin_name(kb.name), SERVICE, admin, clusterIP="None"),
    ]


def _service(kb: KnowledgeBeast, name: str, component: str, port: Manifest, **fields: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(kb, name, component),
        "spec": {"type": "ClusterIP", **fields, "selector": names.selector(kb.name, component), "ports": [port]},
    }


def policies(kb: KnowledgeBeast) -> list[Manifest]:
    """One policy for the service and the Jobs, one for Chroma, and what backups may do beyond the first."""
    return [_service_policy(kb), _chroma_policy(kb), _remote_policy(kb)]


def _service_policy(kb: KnowledgeBeast) -> Manifest:
    """Anybody may ask the service, only the object's maintenance Jobs its admin port; it and those Jobs talk to Chroma
    and to DNS, the Jobs to that port too, service pods to one another (to probe), and neither to anything else.
    """
    chroma = {"podSelector": {"matchLabels": names.selector(kb.name, CHROMA)}}
    service = {"podSelector": {"matchLabels": names.selector(kb.name, SERVICE)}}
    jobs = {"podSelector": {"matchLabels": names.selector(kb.name, MAINTENANCE)}}
    return _policy(
        kb,
        names.service_account_name(kb.name),
        SERVICE,
        {
            "podSelector": _clients(kb),
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"ports": _HTTP}, {"from": [jobs], "ports": _ADMIN}],
            # One policy for both, so each may call out to both ports; what decides is who may come in.
            "egress": [{"to": [chroma], "ports": _HTTP}, {"to": [service], "ports": _HTTP + _ADMIN}, *_DNS],
        },
    )


def _chroma_policy(kb: KnowledgeBeast) -> Manifest:
    """Chroma has no passwords, so only this object's service pods and Jobs reach it. It calls nobody."""
    return _policy(
        kb,
        names.chroma_name(kb.name),
        CHROMA,
        {
            "podSelector": {"matchLabels": names.selector(kb.name, CHROMA)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [{"podSelector": _clients(kb)}], "ports": _HTTP}],
            "egress": [],
        },
    )


def _remote_policy(kb: KnowledgeBeast) -> Manifest:
    """Backups, and restores, may go out to the object storage that the spec names; where it names none, nowhere.

    It is always there: policies add up, and the operator may not delete one when the field is taken back.
    """
    places = [place for place in (kb.spec.database.backup.remote, _bootstrap_remote(kb)) if place is not None]
    ports = [{"protocol": "TCP", "port": port} for port in sorted({place.port for place in places})]
    # A policy cannot name a host; and where the host is a Service, it sees the pods behind it, on ports of their own.
    egress: list[Manifest] = [{"ports": ports}, {"to": [{"namespaceSelector": {}}]}] if ports else []
    tasks = {"key": TASK_LABEL, "operator": "In", "values": [BACKUP, RESTORE]}
    return _policy(
        kb,
        names.remote_policy_name(kb.name),
        MAINTENANCE,
        {
            "podSelector": {"matchLabels": names.selector(kb.name, MAINTENANCE), "matchExpressions": [tasks]},
            "policyTypes": ["Egress"],
            "egress": egress,
        },
    )


def _bootstrap_remote(kb: KnowledgeBeast) -> ObjectStorage | None:
    source = kb.spec.bootstrap.restore_from
    return None if source is None else source.remote


def _clients(kb: KnowledgeBeast) -> Manifest:
    components = {"key": COMPONENT_LABEL, "operator": "In", "values": [SERVICE, MAINTENANCE]}
    return {"matchLabels": {NAME_LABEL: kb.name}, "matchExpressions": [components]}


def _policy(kb: KnowledgeBeast, name: str, component: str, spec: Manifest) -> Manifest:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(kb, name, component),
        "spec": spec,
    }
