"""The kinds that the operator reads or writes, and where the API server serves them."""

from dataclasses import dataclass
from typing import Final

from knowledgebeast_operator.custom_resource import API_VERSION, INCIDENT_KIND, INCIDENT_PLURAL, KIND, PLURAL
from knowledgebeast_operator.custom_resource.names import APPROVAL_KIND, APPROVAL_PLURAL


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind; `is_namespaced` tells whether a namespace belongs into its path."""

    api_version: str
    name: str
    plural: str
    is_namespaced: bool = True

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path of the collection, of one object, or of a subresource of it.

        Raises:
            ValueError: a namespaced kind without a namespace; an empty one would address all namespaces at once.
        """
        if self.is_namespaced and not namespace:
            raise ValueError(f"{self.name} is namespaced; a namespace is needed")
        root = "/api" if "/" not in self.api_version else "/apis"
        parts = [root, self.api_version]
        if self.is_namespaced and namespace:
            parts += ["namespaces", namespace]
        parts += [self.plural, *(part for part in (name, subresource) if part)]
        return "/".join(parts)

    @property
    def resource(self) -> tuple[str, str]:
        """Group with version, and plural: how kopf selects resources."""
        return (self.api_version, self.plural)


KNOWLEDGE_BEAST: Final = Kind(API_VERSION, KIND, PLURAL)
INCIDENT: Final = Kind(API_VERSION, INCIDENT_KIND, INCIDENT_PLURAL)
INCIDENT_APPROVAL: Final = Kind(API_VERSION, APPROVAL_KIND, APPROVAL_PLURAL)
MADE_BY_PEOPLE: Final = (KNOWLEDGE_BEAST, INCIDENT, INCIDENT_APPROVAL)
"""They need not carry our labels."""

POD: Final = Kind("v1", "Pod", "pods")
NODE: Final = Kind("v1", "Node", "nodes", is_namespaced=False)
STORAGE_CLASS: Final = Kind("storage.k8s.io/v1", "StorageClass", "storageclasses", is_namespaced=False)
EVENT: Final = Kind("v1", "Event", "events")
LEASE: Final = Kind("coordination.k8s.io/v1", "Lease", "leases")
CLAIM: Final = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
CONFIG_MAP: Final = Kind("v1", "ConfigMap", "configmaps")
DEPLOYMENT: Final = Kind("apps/v1", "Deployment", "deployments")
STATEFUL_SET: Final = Kind("apps/v1", "StatefulSet", "statefulsets")
CRON_JOB: Final = Kind("batch/v1", "CronJob", "cronjobs")
JOB: Final = Kind("batch/v1", "Job", "jobs")
ENDPOINT_SLICE: Final = Kind("discovery.k8s.io/v1", "EndpointSlice", "endpointslices")

OPERANDS: Final = (
    CLAIM,
    Kind("v1", "ServiceAccount", "serviceaccounts"),
    CONFIG_MAP,
    Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
    Kind("v1", "Service", "services"),
    STATEFUL_SET,
    DEPLOYMENT,
    CRON_JOB,
)
"""What a KnowledgeBeast is made of."""


def operand_kind(name: str) -> Kind:
    """The operand kind of this name.

    Raises:
        KeyError: the operator does not make such objects, hence has no permission for them either.
    """
    return {kind.name: kind for kind in OPERANDS}[name]
