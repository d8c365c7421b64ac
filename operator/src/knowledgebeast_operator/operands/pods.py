"""Parts of pod templates: what every pod of an object shares, security first.

All pods fit the `restricted` Pod Security Standard and, beyond it, have a read-only root file system and no token.
"""

from collections.abc import Mapping
from typing import Final

from knowledgebeast_operator.custom_resource import KnowledgeBeast, names
from knowledgebeast_operator.custom_resource.names import CHROMA, MAINTENANCE, SERVICE
from knowledgebeast_operator.custom_resource.spec import ChromaResources, ServiceResources
from knowledgebeast_operator.operands.manifest import Manifest

USER_ID: Final = 10001
"""The images' user and group; files on the volumes belong to it."""

HTTP_PORT: Final = 8000
"""Of the service and of Chroma."""

ADMIN_PORT: Final = 8001
"""Of the service's admin calls, which want a token from the data volume."""

DATA_FOLDER: Final = "/data"
BACKUP_FOLDER: Final = "/backups"
SOURCE_FOLDER: Final = "/source"
SCRATCH_FOLDER: Final = "/scratch"
TEMPORARY_SIZE: Final = "1Gi"
"""Uploads are streamed to /tmp; beyond this the pod is evicted rather than the node's disk filled."""

HOSTNAME_TOPOLOGY: Final = "kubernetes.io/hostname"

POD_SECURITY: Final[Manifest] = {
    "runAsNonRoot": True,
    "runAsUser": USER_ID,
    "runAsGroup": USER_ID,
    "fsGroup": USER_ID,
    # Without it the kubelet walks over every file of the volume at each start.
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}

CONTAINER_SECURITY: Final[Manifest] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def pod_spec(kb: KnowledgeBeast, *, service_account: str, container: Manifest, volumes: list[Manifest]) -> Manifest:
    """A pod with one container, on the nodes that the object's owner allows."""
    template = kb.spec.service.pod_template
    return {
        "serviceAccountName": service_account,
        "automountServiceAccountToken": False,
        # A Service that happens to be called `chroma` or `log` would otherwise set CHROMA_PORT or LOG_PORT.
        "enableServiceLinks": False,
        "securityContext": POD_SECURITY,
        "containers": [container],
        "volumes": volumes,
        "nodeSelector": template.node_selector,
        "tolerations": [item.model_dump(by_alias=True, exclude_none=True) for item in template.tolerations],
        "imagePullSecrets": [item.model_dump(by_alias=True) for item in template.image_pull_secrets],
    }


def container(name: str, image: str, command: list[str], resources: Manifest) -> Manifest:
    return {
        "name": name,
        "image": image,
        "command": command,
        "resources": resources,
        "securityContext": CONTAINER_SECURITY,
    }


def resources(asked: ServiceResources | ChromaResources) -> Manifest:
    return asked.model_dump(by_alias=True)


def environment(values: Mapping[str, str]) -> list[Manifest]:
    return [{"name": name, "value": value} for name, value in values.items()]


def claim_volume(kb: KnowledgeBeast, volume: str) -> Manifest:
    return {"name": volume, "persistentVolumeClaim": {"claimName": names.claim_name(kb.name, volume)}}


def temporary_volume() -> Manifest:
    return {"name": "tmp", "emptyDir": {"sizeLimit": TEMPORARY_SIZE}}


def http_probe(path: str, *, period: int, timeout: int, failures: int) -> Manifest:
    """A probe over HTTP; all times in seconds."""
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }


def liveness_backstop(path: str) -> Manifest:
    """Restarts a container after three minutes without an answer.

    Slow on purpose: the operator acts first and writes down what it did; the kubelet is for when the operator is away.
    """
    return http_probe(path, period=30, timeout=5, failures=6)


def beside_the_database(*names_of_objects: str) -> Manifest:
    """Affinity that puts a pod on the node of the pods that have the database's volume of one of these objects mounted.

    A ReadWriteOnce volume is mounted on one node; elsewhere a pod waits for it for ever. Service pods and maintenance
    pods look for each other, so that whoever comes first decides. A pod that matches its own term may be the first one
    anywhere, and then the scheduler knows from the volume itself where it can go.
    """
    return _beside(
        names_of_objects,
        {"key": names.COMPONENT_LABEL, "operator": "In", "values": [SERVICE, MAINTENANCE]},
        # Tasks on Chroma's volume, which may be on another node.
        {"key": names.VOLUME_LABEL, "operator": "NotIn", "values": [CHROMA]},
    )


def beside_chroma(name: str) -> Manifest:
    """The same for the volume of Chroma."""
    return _beside((name,), {"key": names.COMPONENT_LABEL, "operator": "In", "values": [CHROMA]})


def _beside(names_of_objects: tuple[str, ...], *expressions: Manifest) -> Manifest:
    whose = {"key": names.NAME_LABEL, "operator": "In", "values": list(names_of_objects)}
    term = {"labelSelector": {"matchExpressions": [whose, *expressions]}, "topologyKey": HOSTNAME_TOPOLOGY}
    return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def on_node(node: str) -> Manifest:
    """Affinity that puts a pod on one node through the scheduler, which minds taints and room."""
    expression = {"key": "metadata.name", "operator": "In", "values": [node]}
    terms = {"nodeSelectorTerms": [{"matchFields": [expression]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
