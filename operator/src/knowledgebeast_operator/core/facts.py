"""What is known about one KnowledgeBeast at one moment, and what is not known and why.

A `Fact` is `Known` with the time at which it was true, or `Unknown` with a reason. Unknown is neither healthy nor
broken: no runbook may act on it (runbook map, "A condition is believed only when it is measured").
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NamedTuple, TypeAlias

from knowledgebeast_operator.core.actions import Target
from knowledgebeast_operator.core.fact import Fact, Known, Unknown
from knowledgebeast_operator.core.healthy_revision import HealthyRevision
from knowledgebeast_operator.core.network import Network
from knowledgebeast_operator.core.overlays import Fence, Overlays
from knowledgebeast_operator.core.protection import NOT_CHECKED, NOTHING_SEEN, IntegrityCheck, Protection
from knowledgebeast_operator.custom_resource import KIND, Spec

__all__ = [
    "Container",
    "Fact",
    "Facts",
    "Known",
    "Node",
    "OwnWork",
    "PerPod",
    "Pod",
    "Row",
    "Sample",
    "Series",
    "Subject",
    "Unknown",
]


class Sample(NamedTuple):
    """One scraped value with the time of its scrape, not of the query.

    There are thousands in a look, and a named tuple is made faster than a frozen dataclass.
    """

    at: datetime
    value: float


Series: TypeAlias = tuple[Sample, ...]
"""Samples of one pod, oldest first."""

PerPod: TypeAlias = Mapping[str, Series]
"""Series by pod name."""


@dataclass(frozen=True, slots=True)
class Row:
    """One value of a question over a window, with the labels that it was grouped by, such as pod and status."""

    labels: Mapping[str, str]
    value: float
    at: datetime


@dataclass(frozen=True, slots=True)
class Subject:
    """Which object the facts are about."""

    namespace: str
    name: str
    uid: str
    generation: int


@dataclass(frozen=True, slots=True)
class Container:
    """The state of a pod's main container as the kubelet reports it."""

    is_running: bool
    started_at: datetime | None
    restart_count: int
    waiting_reason: str | None  # ImagePullBackOff, CrashLoopBackOff, ...
    waiting_message: str | None
    last_exit_code: int | None
    last_exit_reason: str | None  # OOMKilled, Error, ...
    last_finished_at: datetime | None
    image: str


@dataclass(frozen=True, slots=True)
class Pod:
    """The part of a pod that the runbooks look at."""

    name: str
    uid: str
    node: str | None
    created_at: datetime
    is_ready: bool
    is_terminating: bool
    unschedulable_message: str | None
    container: Container | None
    has_lost_readiness: bool = False  # it is not ready now, and was since its container started
    address: str | None = None  # its IP address
    revision: str = ""  # the Deployment's or StatefulSet's, by its template; unknown when empty
    image: str = ""  # as asked for; the container's status has it as the runtime resolved it
    pod_template: str = ""  # digest of the spec.service.podTemplate that it was made with


@dataclass(frozen=True, slots=True)
class Node:
    """A node's health: a cordoned or lost node is told from a broken pod."""

    name: str
    is_ready: bool | None  # None: the node controller says Unknown, i.e. the kubelet is silent
    is_cordoned: bool


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume's claim, and what its StorageClass says."""

    claim: str
    uid: str
    requested_bytes: int | None = None  # what the claim asks for now
    storage_class: str | None = None
    allows_expansion: bool | None = None  # None: the class is not known


@dataclass(frozen=True, slots=True)
class OwnWork:
    """Something that the operator or the cluster is doing to the object now, whose symptoms open no incident.

    A rollout is one whose generation or revision has not been reached. A workload that is merely not ready is not
    own work: that would hide every outage.
    """

    kind: str  # Rollout, Restart, Backup, Resize, Drain, Maintenance
    component: str  # service, chroma; empty: it concerns every component
    message: str
    since: datetime


NOT_ASKED: Final = Unknown("none", "NotAsked", "Nobody has asked for this signal.")
PLAIN_SPEC: Final = Spec()
NO_OVERLAYS: Final = Overlays()


@dataclass(frozen=True, slots=True)
class Facts:
    """One frozen snapshot; `now` is part of it, so that the core needs no clock."""

    now: datetime
    subject: Subject
    scrape_interval: timedelta
    service_pods: Fact[tuple[Pod, ...]]
    chroma_pods: Fact[tuple[Pod, ...]]
    nodes: Fact[Mapping[str, Node]]
    breaker_state: Fact[PerPod]  # kb_chroma_breaker_state: 0 closed, 1 half-open, 2 open
    canary_success_ratio: Fact[PerPod]  # kb_canary_success_ratio: 0..1
    canary_timestamp: Fact[PerPod]  # kb_canary_timestamp_seconds: Unix time of the last finished round
    degraded_mode: Fact[PerPod]  # kb_degraded_mode: 0 or 1
    error_ratio: Fact[
        float
    ]  # 5xx answers over all answers in the window; Unknown with reason Idle when there were none
    own_work: tuple[OwnWork, ...] = ()
    scheduled: tuple[OwnWork, ...] = ()  # tasks by the clock that run now: they explain nothing, and are not disturbed
    network: Fact[Network] = NOT_ASKED  # between the service and Chroma; asked for while Chroma does not answer
    canary_interval: timedelta = timedelta(seconds=10)  # between two canary rounds of a service pod
    integrity: Fact[IntegrityCheck] = NOT_CHECKED
    checks: tuple[IntegrityCheck, ...] = ()  # all whose verdict is recalled, those of the operator's own tasks included
    protection: Protection = NOTHING_SEEN
    fence: Fence | None = None  # while nobody may have the database open
    started: frozenset[str] = frozenset()  # attempts whose task has, or had, a pod
    volumes: Fact[Mapping[str, Volume]] = NOT_ASKED  # by the name of the volume, such as database
    database_errors: Fact[PerPod] = NOT_ASKED  # kb_database_errors_total{kind="corrupt"}
    database_up: Fact[PerPod] = NOT_ASKED  # kb_component_up{component="database"}: 0 or 1
    last_healthy: HealthyRevision | None = None  # the revision of the service to which a rollback would go
    rolled_out_at: datetime | None = None  # when the service's last rollout ended, or last got on
    service_workload: Fact[Target] = NOT_ASKED  # the Deployment of the service pods
    spec: Spec = PLAIN_SPEC  # the user's
    overlays: Overlays = NO_OVERLAYS  # those in force
    series_by_name: Mapping[str, Fact[PerPod]] = field(default_factory=dict[str, Fact[PerPod]])
    rows_by_name: Mapping[str, Fact[tuple[Row, ...]]] = field(default_factory=dict[str, Fact[tuple[Row, ...]]])

    @property
    def effective_spec(self) -> Spec:
        """What is in force: the spec with the overlays."""
        return self.overlays.apply_to(self.spec)

    def series(self, name: str) -> Fact[PerPod]:
        """The samples of a query of `signals.queries`, by pod."""
        return self.series_by_name.get(name, NOT_ASKED)

    def rows(self, name: str) -> Fact[tuple[Row, ...]]:
        """The values of a query of `signals.queries` over its window."""
        return self.rows_by_name.get(name, NOT_ASKED)

    @property
    def itself(self) -> Target:
        """The object as a target of actions that change what is in force for it."""
        return Target(kind=KIND, name=self.subject.name, uid=self.subject.uid)
