"""The parts of Kubernetes objects that the harness looks at, read from the API server's JSON."""

from datetime import datetime
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Part(BaseModel):
    """A piece of an object: frozen, camelCase outside, blind to what nobody here reads."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore")


class OwnerReference(Part):
    kind: str
    name: str
    uid: str


class Metadata(Part):
    name: str
    namespace: str | None = None
    uid: str
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: datetime
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    owner_references: tuple[OwnerReference, ...] = ()


class Condition(Part):
    """metav1.Condition, and the conditions of pods."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: datetime | None = None

    def __str__(self) -> str:
        return f"{self.type}={self.status} ({self.reason}: {self.message})"


class Resource(Part):
    """An object with its place in the API, e.g. /api/v1 and pods."""

    prefix: ClassVar[str]
    plural: ClassVar[str]
    metadata: Metadata

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def uid(self) -> str:
        return self.metadata.uid


class Waiting(Part):
    reason: str = ""
    message: str = ""


class Running(Part):
    started_at: datetime


class ContainerState(Part):
    waiting: Waiting | None = None
    running: Running | None = None


class ContainerStatus(Part):
    name: str
    ready: bool = False
    restart_count: int = 0
    container_id: str = Field(default="", alias="containerID")
    image: str = ""
    state: ContainerState = ContainerState()


class Container(Part):
    name: str
    image: str


class PodSpec(Part):
    node_name: str | None = None
    containers: tuple[Container, ...] = ()


class PodStatus(Part):
    phase: str = ""
    pod_ip: str | None = Field(default=None, alias="podIP")
    conditions: tuple[Condition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()


class Pod(Resource):
    prefix: ClassVar[str] = "/api/v1"
    plural: ClassVar[str] = "pods"
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def is_ready(self) -> bool:
        """Ready and not on its way out."""
        ready = any(item.type == "Ready" and item.status == "True" for item in self.status.conditions)
        return ready and self.metadata.deletion_timestamp is None

    @property
    def restarts(self) -> int:
        return sum(item.restart_count for item in self.status.container_statuses)

    def __str__(self) -> str:
        states = [item.state.waiting.reason for item in self.status.container_statuses if item.state.waiting]
        return f"{self.name}: {self.status.phase}, ready {self.is_ready}, restarts {self.restarts} {' '.join(states)}"


class WorkloadSpec(Part):
    replicas: int = 1


class WorkloadStatus(Part):
    observed_generation: int = 0
    ready_replicas: int = 0
    updated_replicas: int = 0
    replicas: int = 0


class Workload(Resource):
    """A Deployment or a StatefulSet."""

    prefix: ClassVar[str] = "/apis/apps/v1"
    spec: WorkloadSpec = WorkloadSpec()
    status: WorkloadStatus = WorkloadStatus()

    @property
    def is_rolled_out(self) -> bool:
        """All replicas are of the present template and ready."""
        wanted, seen = self.spec.replicas, self.status
        counts = (seen.updated_replicas, seen.ready_replicas, seen.replicas)
        return seen.observed_generation >= self.metadata.generation and counts == (wanted, wanted, wanted)


class Deployment(Workload):
    plural: ClassVar[str] = "deployments"


class StatefulSet(Workload):
    plural: ClassVar[str] = "statefulsets"


class ServicePort(Part):
    name: str = ""
    port: int
    target_port: int | str = 0


class ServiceSpec(Part):
    cluster_ip: str | None = Field(default=None, alias="clusterIP")
    selector: dict[str, str] = Field(default_factory=dict)
    ports: tuple[ServicePort, ...] = ()


class Service(Resource):
    prefix: ClassVar[str] = "/api/v1"
    plural: ClassVar[str] = "services"
    spec: ServiceSpec = ServiceSpec()


class Claim(Resource):
    prefix: ClassVar[str] = "/api/v1"
    plural: ClassVar[str] = "persistentvolumeclaims"


class Namespace(Resource):
    prefix: ClassVar[str] = "/api/v1"
    plural: ClassVar[str] = "namespaces"


class ConfigMap(Resource):
    prefix: ClassVar[str] = "/api/v1"
    plural: ClassVar[str] = "configmaps"
    data: dict[str, str] = Field(default_factory=dict)


class LeaseSpec(Part):
    holder_identity: str | None = None


class Lease(Resource):
    prefix: ClassVar[str] = "/apis/coordination.k8s.io/v1"
    plural: ClassVar[str] = "leases"
    spec: LeaseSpec = LeaseSpec()


class StorageClass(Resource):
    prefix: ClassVar[str] = "/apis/storage.k8s.io/v1"
    plural: ClassVar[str] = "storageclasses"
    provisioner: str
    allow_volume_expansion: bool = False


class InvolvedObject(Part):
    kind: str = ""
    name: str = ""
    uid: str = ""


class KubeEvent(Resource):
    prefix: ClassVar[str] = "/api/v1"
    plural: ClassVar[str] = "events"
    type: str = ""
    reason: str = ""
    message: str = ""
    involved_object: InvolvedObject = InvolvedObject()

    def __str__(self) -> str:
        about = f"{self.involved_object.kind}/{self.involved_object.name}"
        return f"{self.metadata.creation_timestamp:%H:%M:%S} {self.type} {about} {self.reason}: {self.message}"
