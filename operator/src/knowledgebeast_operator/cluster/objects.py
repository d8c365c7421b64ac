"""The parts of live objects that the operator reads, as lenient models: what is absent gets Kubernetes' own default."""

from datetime import datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Part(BaseModel):
    """A piece of a live object; fields of newer API servers are ignored."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore")


class Meta(Part):
    """ObjectMeta."""

    name: str
    namespace: str = ""
    uid: str
    resource_version: str
    generation: int = 0
    creation_timestamp: AwareDatetime
    deletion_timestamp: AwareDatetime | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class Condition(Part):
    """A condition of a pod, a node or a claim."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: AwareDatetime | None = None
    last_update_time: AwareDatetime | None = None  # of a Deployment's: when a rollout last went on, or ended


class Running(Part):
    started_at: AwareDatetime | None = None


class Waiting(Part):
    reason: str | None = None
    message: str | None = None


class Terminated(Part):
    exit_code: int | None = None
    reason: str | None = None
    message: str | None = None
    started_at: AwareDatetime | None = None
    finished_at: AwareDatetime | None = None


class ContainerState(Part):
    running: Running | None = None
    waiting: Waiting | None = None
    terminated: Terminated | None = None


class ContainerStatus(Part):
    name: str
    image: str = ""
    restart_count: int = 0
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()


class ClaimSource(Part):
    claim_name: str


class PodVolume(Part):
    persistent_volume_claim: ClaimSource | None = None


class PodContainer(Part):
    name: str
    image: str = ""


class PodSpec(Part):
    node_name: str | None = None
    containers: tuple[PodContainer, ...] = ()
    volumes: tuple[PodVolume, ...] = ()


class PodStatus(Part):
    phase: str = ""
    pod_ip: str | None = Field(default=None, alias="podIP")
    conditions: tuple[Condition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()


class LivePod(Part):
    metadata: Meta
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def is_over(self) -> bool:
        """Whether its containers have ended for good, so that it has no volume any more."""
        return self.status.phase in ("Succeeded", "Failed")

    def mounts(self, claim: str) -> bool:
        """Whether it has the claim, or will have it once it runs."""
        sources = (volume.persistent_volume_claim for volume in self.spec.volumes)
        return not self.is_over and any(source is not None and source.claim_name == claim for source in sources)


class ConditionedStatus(Part):
    conditions: tuple[Condition, ...] = ()


class JobSpec(Part):
    active_deadline_seconds: int | None = None


class LiveJob(Part):
    metadata: Meta
    spec: JobSpec = JobSpec()
    status: ConditionedStatus = ConditionedStatus()

    @property
    def end(self) -> Condition | None:
        """The condition with which it ended, Complete or Failed; None while it goes on."""
        found = (item for item in self.status.conditions if item.type in ("Complete", "Failed"))
        return next((item for item in found if item.status == "True"), None)


class NodeSpec(Part):
    unschedulable: bool = False


class LiveNode(Part):
    metadata: Meta
    spec: NodeSpec = NodeSpec()
    status: ConditionedStatus = ConditionedStatus()


class LiveStorageClass(Part):
    metadata: Meta
    allow_volume_expansion: bool = False


class ResourceRequests(Part):
    requests: dict[str, str] = Field(default_factory=dict)


class OperandSpec(Part):
    """`replicas` of workloads, `resources` and class of claims."""

    replicas: int = 1
    resources: ResourceRequests = ResourceRequests()
    storage_class_name: str | None = None


class OperandStatus(Part):
    """The status of a Deployment, a StatefulSet or a claim; other operands have none that matters."""

    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    current_revision: str = ""
    update_revision: str = ""
    capacity: dict[str, str] = Field(default_factory=dict)
    conditions: tuple[Condition, ...] = ()


class LiveOperand(Part):
    kind: str
    metadata: Meta
    spec: OperandSpec = OperandSpec()
    status: OperandStatus = OperandStatus()
    data: dict[str, str] = Field(default_factory=dict)  # of ConfigMaps

    @property
    def is_rolling_out(self) -> bool:
        """Whether its controller is still replacing pods by those of the present template."""
        status = self.status
        if self.kind == "Deployment":
            outdated = status.updated_replicas < self.spec.replicas or status.replicas > status.updated_replicas
            return status.observed_generation < self.metadata.generation or outdated
        if self.kind == "StatefulSet":
            outdated = (
                status.update_revision != status.current_revision and status.updated_replicas < self.spec.replicas
            )
            return status.observed_generation < self.metadata.generation or outdated
        return False

    @property
    def rolled_out_at(self) -> datetime | None:
        """When a Deployment's last rollout ended, or last went on; scaling and restarts of its pods do not count."""
        progress = next((condition for condition in self.status.conditions if condition.type == "Progressing"), None)
        return progress.last_update_time if progress is not None else None

    @property
    def resizing_since(self) -> datetime | None:
        """Since when a claim is being enlarged."""
        return next(
            (
                condition.last_transition_time or self.metadata.creation_timestamp
                for condition in self.status.conditions
                if condition.type in ("Resizing", "FileSystemResizePending") and condition.status == "True"
            ),
            None,
        )
