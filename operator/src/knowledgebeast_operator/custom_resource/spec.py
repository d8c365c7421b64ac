"""The `spec` of a KnowledgeBeast. The CRD holds the same fields, bounds and defaults; a contract test compares them.

The bounds are checked here again because an object can be older than the rule that would refuse it today.
"""

import hashlib
import json
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from knowledgebeast_operator.custom_resource import schedule
from knowledgebeast_operator.custom_resource.object_storage import ObjectStorage
from knowledgebeast_operator.custom_resource.part import Part
from knowledgebeast_operator.custom_resource.units import format_duration, parse_bytes, parse_duration

SHORTEST: Final = timedelta(seconds=5)
LONGEST: Final = timedelta(hours=24)


def _in_range(value: timedelta) -> timedelta:
    if not SHORTEST <= value <= LONGEST:
        raise ValueError(
            f"{format_duration(value)} is outside {format_duration(SHORTEST)} to {format_duration(LONGEST)}"
        )
    return value


Duration = Annotated[
    timedelta,
    BeforeValidator(lambda value: parse_duration(value) if isinstance(value, str) else value),
    AfterValidator(_in_range),
]
"""From 5 s to 24 h, written like `30s`, `10m` or `1h30m`."""

Cores = Annotated[str, BeforeValidator(str), Field(pattern=r"^([1-9][0-9]{0,4}m|[1-9][0-9]{0,2})$")]
"""Whole cores or thousandths of one; YAML may have them as a number."""

Memory = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,6}(Mi|Gi)$")]

Size = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,5}(Mi|Gi|Ti)$")]

Schedule = Annotated[str, Field(min_length=9, max_length=100), AfterValidator(schedule.checked)]
"""Five fields as cron has them, in UTC."""


class Mode(StrEnum):
    """What the operator may do about an incident: act, only write down what it would do, or nothing."""

    ENFORCE = "Enforce"
    DRY_RUN = "DryRun"
    DISABLED = "Disabled"


class Device(StrEnum):
    """Where embeddings are computed; `auto` takes a GPU where the image and the node have one."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Backend(StrEnum):
    """What computes embeddings; `auto` takes the first that works."""

    AUTO = "auto"
    INT8 = "int8"
    FP32 = "fp32"
    SENTENCE_TRANSFORMERS = "sentence-transformers"


class DeletionPolicy(StrEnum):
    """What happens to the claims when the object is deleted."""

    RETAIN = "Retain"
    DELETE = "Delete"


class Amounts(Part):
    cpu: Cores
    memory: Memory


class ServiceRequests(Amounts):
    cpu: Cores = "200m"
    memory: Memory = "512Mi"


class ServiceLimits(Amounts):
    cpu: Cores = "2"
    memory: Memory = "2Gi"


class ServiceResources(Part):
    requests: ServiceRequests = ServiceRequests()
    limits: ServiceLimits = ServiceLimits()


class ChromaRequests(Amounts):
    cpu: Cores = "100m"
    memory: Memory = "256Mi"


class ChromaLimits(Amounts):
    cpu: Cores = "2"
    memory: Memory = "2Gi"


class ChromaResources(Part):
    requests: ChromaRequests = ChromaRequests()
    limits: ChromaLimits = ChromaLimits()


class Storage(Part):
    """One claim. It grows when `size` does, by itself up to `max_size` when its volume is full, and never shrinks."""

    size: Size = "10Gi"
    max_size: Size | None = None
    storage_class_name: str | None = Field(default=None, min_length=1, max_length=253)

    @property
    def size_bytes(self) -> int:
        return parse_bytes(self.size)

    @property
    def max_size_bytes(self) -> int | None:
        """None: it does not grow by itself."""
        return None if self.max_size is None else parse_bytes(self.max_size)


class Toleration(Part):
    key: str | None = Field(default=None, max_length=317)
    operator: Literal["Exists", "Equal"] = "Equal"
    value: str | None = Field(default=None, max_length=63)
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: int | None = Field(default=None, ge=0, le=86400)


class ImagePullSecret(Part):
    name: Annotated[str, Field(min_length=1, max_length=253)]


class EnvironmentVariable(Part):
    name: Annotated[str, Field(min_length=1, max_length=128)]
    value: Annotated[str, Field(max_length=4096)] = ""


class PodTemplate(Part):
    """What people add to the pods that the operator makes."""

    node_selector: dict[str, str] = Field(default_factory=dict, max_length=20)
    tolerations: tuple[Toleration, ...] = Field(default=(), max_length=20)
    image_pull_secrets: tuple[ImagePullSecret, ...] = Field(default=(), max_length=10)
    labels: dict[str, str] = Field(default_factory=dict, max_length=20)
    annotations: dict[str, str] = Field(default_factory=dict, max_length=20)
    env: tuple[EnvironmentVariable, ...] = Field(default=(), max_length=50)

    @property
    def canonical(self) -> str:
        """As JSON that is the same for the same content."""
        return json.dumps(self.model_dump(mode="json", by_alias=True, exclude_defaults=True), sort_keys=True)

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that differ where the content does."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()[:16]


class SecretKeyRef(Part):
    """One key of a Secret in the object's namespace. The kubelet reads it, the operator never does."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    key: str = Field(default="keys.json", min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")


class ServiceConfig(Part):
    """Settings of the service. None of them restarts a pod."""

    rate_limit_per_minute: int = Field(default=100, ge=0, le=1_000_000)
    trusted_proxies: int = Field(default=0, ge=0, le=16)
    max_document_size_mb: int = Field(default=50, ge=1, le=1024, alias="maxDocumentSizeMB")
    chroma_probe_interval_seconds: int = Field(default=30, ge=1, le=300)
    chroma_timeout_seconds: float = Field(default=1.0, ge=0.1, le=30)
    canary_interval_seconds: int = Field(default=10, ge=1, le=300)
    probe_interval_seconds: int = Field(default=10, ge=0, le=300)
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class Rollout(Part):
    """How a new revision of the service goes out: one pod of it serves for so long before the next one is replaced."""

    canary_seconds: int = Field(default=0, ge=0, le=3600)


class Service(Part):
    """The retrieval service; without an image, the one of the operator's own configuration is used."""

    image: str | None = Field(default=None, min_length=1, max_length=512)
    replicas: int = Field(default=2, ge=1, le=20)
    max_replicas: int = Field(default=5, ge=1, le=20)
    resources: ServiceResources = ServiceResources()
    pod_template: PodTemplate = PodTemplate()
    api_keys_secret_ref: SecretKeyRef | None = None
    config: ServiceConfig = ServiceConfig()


class Cache(Part):
    query_entries: int = Field(default=1000, ge=0, le=1_000_000)
    embedding_entries: int = Field(default=5000, ge=0, le=1_000_000)
    max_memory_mb: int = Field(default=2048, ge=16, le=1_048_576, alias="maxMemoryMB")
    warming_schedule: Schedule = "0 */6 * * *"


class Embedding(Part):
    model: str = Field(
        default="sentence-transformers/all-MiniLM-L6-v2",
        min_length=1,
        max_length=128,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$",
    )
    device: Device = Device.AUTO
    backend: Backend = Backend.AUTO


class Chroma(Part):
    storage: Storage = Storage()
    resources: ChromaResources = ChromaResources()


class Backup(Part):
    """When the database is backed up, how long the backups are kept, on which claim, and where copies of them go."""

    schedule: Schedule = "0 * * * *"
    keep_days: int = Field(default=7, ge=1, le=366)
    keep_daily_days: int = Field(default=30, ge=1, le=3660)
    storage: Storage = Storage()
    remote: ObjectStorage | None = None

    @property
    def retention_arguments(self) -> tuple[str, ...]:
        """The words of a maintenance task that say what is kept.

        An object can be older than the rule that keepDailyDays is not below keepDays.
        """
        daily = max(self.keep_days, self.keep_daily_days)
        return ("--keep-days", str(self.keep_days), "--keep-daily-days", str(daily))


class Database(Part):
    storage: Storage = Storage()
    backup: Backup = Backup()
    integrity_check_schedule: Schedule = "*/30 * * * *"
    restore_drill_schedule: Schedule = "0 3 * * 0"
    clean_schedule: Schedule = "0 2 * * *"


class RestoreFrom(Part):
    """Where backups of another object are, and the backup to take; without one, the newest good one."""

    claim_name: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    remote: ObjectStorage | None = None
    backup: str | None = Field(default=None, max_length=64, pattern=r"^[0-9]{8}T[0-9]{6}Z-[0-9]{1,19}$")

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if (self.claim_name is None) == (self.remote is None):
            raise ValueError("exactly one of claimName and remote must be set")
        return self

    @property
    def source(self) -> str:
        """In words, for messages."""
        return f"claim {self.claim_name}" if self.remote is None else self.remote.location


class Bootstrap(Part):
    """Where the first content of a new object comes from; unset, it begins empty."""

    restore_from: RestoreFrom | None = None


class Prometheus(Part):
    """Names a Prometheus of the operator's own configuration: an address in the object would be a way to misuse it."""

    target: str = Field(default="default", min_length=1, max_length=63)


class Pause(Part):
    """While it lasts, incidents are found and written down, and nothing is done about them."""

    reason: Annotated[str, Field(min_length=1, max_length=256)]
    until: datetime | None = None


class MaintenanceWindow(Part):
    """When disruptive actions may run. An unknown time zone is reported as a condition by the operator."""

    days: tuple[Literal["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"], ...] = Field(min_length=1, max_length=7)
    start: Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
    duration: Duration
    timezone: str = Field(default="UTC", min_length=1, max_length=64)


class Budget(Part):
    """At most this many actions for the object in any such period, over all runbooks."""

    max_actions: int = Field(default=10, ge=1, le=100)
    per: Duration = timedelta(hours=1)


class EscalationClock(Part):
    """How long an incident has lasted when each further level of the escalation path is called."""

    team_lead_after: Duration = timedelta(minutes=15)
    engineering_manager_after: Duration = timedelta(hours=1)
    cto_after: Duration = timedelta(hours=4)


ThresholdValue = Annotated[float, Field(ge=0, le=1e12)]


class RunbookPolicy(Part):
    """Settings of one runbook; what is unset follows the runbook's own default."""

    name: Annotated[str, Field(min_length=1, max_length=63)]
    mode: Mode | None = None
    max_attempts: int | None = Field(default=None, ge=1, le=20)
    cooldown: Duration | None = None
    healthy_period: Duration | None = None
    window: Duration | None = None
    for_: Duration | None = Field(default=None, alias="for")
    settle: Duration | None = None
    verify_timeout: Duration | None = None
    thresholds: dict[str, ThresholdValue] | None = Field(default=None, max_length=32)


class Remediation(Part):
    mode: Mode = Mode.ENFORCE
    pauses: tuple[Pause, ...] = Field(default=(), max_length=10)
    maintenance_windows: tuple[MaintenanceWindow, ...] = Field(default=(), max_length=10)
    budget: Budget = Budget()
    escalation: EscalationClock = EscalationClock()
    runbooks: tuple[RunbookPolicy, ...] = Field(default=(), max_length=32)

    def policy(self, runbook: str) -> RunbookPolicy:
        """What was set for `runbook`; nothing but its name when it is not listed."""
        return next((item for item in self.runbooks if item.name == runbook), None) or _unset(runbook)


@lru_cache(maxsize=64)
def _unset(runbook: str) -> RunbookPolicy:
    return RunbookPolicy(name=runbook)


class Spec(Part):
    service: Service = Service()
    rollout: Rollout = Rollout()
    cache: Cache = Cache()
    embedding: Embedding = Embedding()
    chroma: Chroma = Chroma()
    database: Database = Database()
    bootstrap: Bootstrap = Bootstrap()
    deletion_policy: DeletionPolicy = DeletionPolicy.RETAIN
    prometheus: Prometheus = Prometheus()
    remediation: Remediation = Remediation()
