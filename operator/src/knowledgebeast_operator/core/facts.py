"""What is known about one KnowledgeBeast at one moment, and what is not known and why.

A `Fact` is `Known` with the time at which it was true, or `Unknown` with a reason. Unknown is neither healthy nor
broken: no runbook may act on it (runbook map, "A condition is believed only when it is measured").
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeAlias, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Known(Generic[T]):
    """A value and the moment at which it was observed (timezone-aware UTC)."""

    value: T
    at: datetime


@dataclass(frozen=True, slots=True)
class Unknown:
    """Why a value is missing: the signal's name, a CamelCase reason, and a sentence for a human."""

    signal: str
    reason: str
    message: str


Fact: TypeAlias = Known[T] | Unknown


@dataclass(frozen=True, slots=True)
class Sample:
    """One scraped value with the time of its scrape, not of the query."""

    at: datetime
    value: float


Series: TypeAlias = tuple[Sample, ...]
"""Samples of one pod, oldest first."""

PerPod: TypeAlias = Mapping[str, Series]
"""Series by pod name."""


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


@dataclass(frozen=True, slots=True)
class Node:
    """A node's health: a cordoned or lost node is told from a broken pod."""

    name: str
    is_ready: bool | None  # None: the node controller says Unknown, i.e. the kubelet is silent
    is_cordoned: bool


@dataclass(frozen=True, slots=True)
class OwnWork:
    """Something that the operator or the cluster is doing to the object now, whose symptoms open no incident.

    A rollout is one whose generation or revision has not been reached. A workload that is merely not ready is not
    own work: that would hide every outage.
    """

    kind: str  # Rollout, Restart, Backup, Resize, Drain
    component: str  # service, chroma
    message: str
    since: datetime


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
    canary_interval: timedelta = timedelta(seconds=10)  # between two canary rounds of a service pod
