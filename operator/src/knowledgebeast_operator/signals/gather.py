"""One `Facts` for one object: Prometheus is asked for all signals at once, the cluster is read from the watches."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

from knowledgebeast_operator.cluster.client import Json
from knowledgebeast_operator.cluster.kinds import CLAIM, DEPLOYMENT
from knowledgebeast_operator.cluster.objects import LiveOperand, LiveStorageClass
from knowledgebeast_operator.cluster.watched import Indexes, Key
from knowledgebeast_operator.core import actions
from knowledgebeast_operator.core.facts import (
    Fact,
    Facts,
    Known,
    PerPod,
    Pod,
    Row,
    Subject,
    Unknown,
    Volume,
)
from knowledgebeast_operator.core.healthy_revision import LAST_HEALTHY, read_healthy_revision
from knowledgebeast_operator.core.ledger import IncidentRecord
from knowledgebeast_operator.core.overlays import Overlays
from knowledgebeast_operator.custom_resource import KnowledgeBeast, names
from knowledgebeast_operator.custom_resource.names import (
    ATTEMPT_LABEL,
    BACKUPS,
    CHROMA,
    COMPONENT_LABEL,
    DATABASE,
    SERVICE,
    UID_LABEL,
)
from knowledgebeast_operator.custom_resource.units import quantity_bytes
from knowledgebeast_operator.errors import PrometheusUnreachable
from knowledgebeast_operator.signals import queries
from knowledgebeast_operator.signals.cluster import ObservedPod, observe_node, observe_pod
from knowledgebeast_operator.signals.own_work import own_work, scheduled_tasks
from knowledgebeast_operator.signals.prometheus import Prometheus
from knowledgebeast_operator.signals.protection import observe_protection
from knowledgebeast_operator.signals.queries import QUERIES, Query, Scope
from knowledgebeast_operator.signals.samples import Answer, error_ratio

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Target:
    """A Prometheus of the operator's configuration, connected."""

    client: Prometheus
    scrape_interval: timedelta


@dataclass(frozen=True, slots=True)
class Sources:
    """Where facts come from."""

    indexes: Indexes
    targets: Mapping[str, Target]
    is_watch_fresh: Callable[[str], bool]  # by namespace


DEFAULT_SCRAPE_INTERVAL: Final = timedelta(seconds=10)
"""Assumed where the object names an unknown Prometheus: all its signals are unknown anyway."""

SHORTEST_HISTORY: Final = timedelta(minutes=2)


async def gather(
    sources: Sources,
    knowledgebeast: KnowledgeBeast,
    *,
    incidents: Iterable[IncidentRecord],
    status: Json,
    overlays: Overlays,
    windows: Mapping[str, timedelta],
    now: datetime,
) -> Facts:
    """Everything that is known about one object now. Never raises for a missing signal: that is a value.

    Args:
        sources: where to ask.
        knowledgebeast: the object.
        incidents: its open incidents, for what is under way.
        status: its status as it is, which recalls what the Jobs said that are gone.
        overlays: what incidents have changed and is in force.
        windows: how far back each runbook looks, by its name.
        now: the time of this tick (UTC).
    """
    key: Key = (knowledgebeast.namespace, knowledgebeast.name)
    live_pods = [item.value for item in sources.indexes.pods.get(key, ())]
    # Those of a deleted object of this name stay for a while, and are nothing of this one.
    uid = knowledgebeast.uid
    own_pods = [pod for pod in live_pods if pod.metadata.labels.get(UID_LABEL, uid) == uid]
    pods = [observe_pod(pod, pod.metadata.labels.get(COMPONENT_LABEL, "")) for pod in own_pods]
    operands = [item.value for item in sources.indexes.operands.get(key, ())]
    nodes = {node.name: node for node in (observe_node(item.value) for item in sources.indexes.nodes.get(("", ""), ()))}
    classes = [item.value for item in sources.indexes.storage_classes.get(("", ""), ())]
    work = own_work(
        pods=pods,
        operands=operands,
        nodes=nodes,
        incidents=incidents,
        now=now,
    )
    integrity, protection = observe_protection(knowledgebeast, live_pods, operands, status)
    is_fresh = sources.is_watch_fresh(knowledgebeast.namespace)
    target = sources.targets.get(knowledgebeast.spec.prometheus.target)
    scopes = _scopes(knowledgebeast, pods, nodes)
    questions = {query.name: _promql(query, windows) for query in QUERIES}
    answers: Mapping[str, Answer | PrometheusUnreachable] = {}
    if target is not None:
        answers = await target.client.ask(questions.values())
    read = _Reader(knowledgebeast, scopes, questions, answers, now)
    series = {query.name: read.series(query) for query in QUERIES if query.is_series}
    rows = {query.name: read.rows(query) for query in QUERIES if not query.is_series}
    return Facts(
        now=now,
        subject=Subject(knowledgebeast.namespace, knowledgebeast.name, knowledgebeast.uid, knowledgebeast.generation),
        scrape_interval=target.scrape_interval if target else DEFAULT_SCRAPE_INTERVAL,
        service_pods=_seen(_of(pods, SERVICE), "service_pods", is_fresh, now),
        chroma_pods=_seen(_of(pods, CHROMA), "chroma_pods", is_fresh, now),
        nodes=_seen(nodes, "nodes", is_fresh, now),
        breaker_state=series[queries.BREAKER_STATE],
        canary_success_ratio=series[queries.CANARY_SUCCESS_RATIO],
        canary_timestamp=series[queries.CANARY_TIMESTAMP],
        degraded_mode=series[queries.DEGRADED_MODE],
        error_ratio=error_ratio(rows[queries.REQUESTS], "http_requests_total"),
        database_errors=series[queries.DATABASE_ERRORS],
        database_up=series[queries.DATABASE_UP],
        fence=overlays.fence,
        started=frozenset(pod.metadata.labels.get(ATTEMPT_LABEL, "") for pod in live_pods) - {""},
        volumes=_seen(_volumes(knowledgebeast, operands, classes), "volumes", is_fresh, now),
        service_workload=_service_workload(knowledgebeast, operands, is_fresh, now),
        own_work=work,
        scheduled=scheduled_tasks(own_pods),
        canary_interval=timedelta(seconds=knowledgebeast.spec.service.config.canary_interval_seconds),
        integrity=integrity,
        protection=protection,
        last_healthy=read_healthy_revision(status.get(LAST_HEALTHY)),
        rolled_out_at=_rolled_out_at(knowledgebeast, operands),
        spec=knowledgebeast.spec,
        overlays=overlays,
        series_by_name=series,
        rows_by_name=rows,
    )


def _rolled_out_at(knowledgebeast: KnowledgeBeast, operands: Iterable[LiveOperand]) -> datetime | None:
    deployment = names.service_name(knowledgebeast.name)
    found = (item for item in operands if item.kind == DEPLOYMENT.name and item.metadata.name == deployment)
    return next((item.rolled_out_at for item in found), None)


def _volumes(
    knowledgebeast: KnowledgeBeast, operands: Iterable[LiveOperand], classes: Iterable[LiveStorageClass]
) -> Mapping[str, Volume]:
    """The claims that there are, by the name of the volume."""
    claims = {item.metadata.name: item for item in operands if item.kind == CLAIM.name}
    can_grow = {item.metadata.name: item.allow_volume_expansion for item in classes}
    by_volume = {volume: names.claim_name(knowledgebeast.name, volume) for volume in (DATABASE, BACKUPS, CHROMA)}
    return {
        volume: _volume(claims[claim], can_grow.get(claims[claim].spec.storage_class_name or ""))
        for volume, claim in by_volume.items()
        if claim in claims
    }


def _volume(claim: LiveOperand, can_grow: bool | None) -> Volume:
    requested = claim.spec.resources.requests.get("storage")
    return Volume(
        claim=claim.metadata.name,
        uid=claim.metadata.uid,
        requested_bytes=quantity_bytes(requested),
        storage_class=claim.spec.storage_class_name,
        allows_expansion=can_grow,
    )


def _service_workload(
    knowledgebeast: KnowledgeBeast, operands: Iterable[LiveOperand], is_fresh: bool, now: datetime
) -> Fact[actions.Target]:
    name = names.service_name(knowledgebeast.name)
    found = next((one for one in operands if one.kind == DEPLOYMENT.name and one.metadata.name == name), None)
    if found is None:
        return Unknown("service_workload", "WorkloadMissing", f"Deployment {name} is not there.")
    target = actions.Target(kind=DEPLOYMENT.name, name=name, uid=found.metadata.uid)
    return _seen(target, "service_workload", is_fresh, now)


def _of(pods: Iterable[ObservedPod], component: str) -> tuple[Pod, ...]:
    return tuple(sorted((item.pod for item in pods if item.component == component), key=lambda pod: pod.name))


def _seen(value: T, signal: str, is_fresh: bool, now: datetime) -> Fact[T]:
    if is_fresh:
        return Known(value, now)
    return Unknown(signal, "WatchStale", f"The watch of {signal} has been silent while the cluster changed.")


def _scopes(
    knowledgebeast: KnowledgeBeast, pods: Iterable[ObservedPod], nodes: Iterable[str]
) -> Mapping[Scope, frozenset[str]]:
    """The names that belong to the object, by scope."""
    present = tuple(pods)
    volumes = (DATABASE, BACKUPS, CHROMA)
    return {
        Scope.SERVICE: frozenset(item.pod.name for item in present if item.component == SERVICE),
        Scope.CHROMA: frozenset(item.pod.name for item in present if item.component == CHROMA),
        Scope.CLAIMS: frozenset(names.claim_name(knowledgebeast.name, volume) for volume in volumes),
        Scope.NODES: frozenset(item.pod.node for item in present if item.pod.node is not None) & frozenset(nodes),
    }


LABELS: Final = {
    Scope.SERVICE: "pod",
    Scope.CHROMA: "pod",
    Scope.CLAIMS: "persistentvolumeclaim",
    Scope.NODES: "node",
}


def _promql(query: Query, windows: Mapping[str, timedelta]) -> str:
    return query.promql(max(windows.get(name, SHORTEST_HISTORY) for name in query.runbooks))


@dataclass(frozen=True, slots=True)
class _Reader:
    """What the answers of one tick say about the object; every failure becomes an Unknown that names the query."""

    knowledgebeast: KnowledgeBeast
    scopes: Mapping[Scope, frozenset[str]]
    questions: Mapping[str, str]
    answers: Mapping[str, Answer | PrometheusUnreachable]
    now: datetime

    def series(self, query: Query) -> Fact[PerPod]:
        answer = self._answer(query)
        if isinstance(answer, Unknown):
            return answer
        namespace, wanted = self.knowledgebeast.namespace, self.scopes[query.scope]
        return answer.per_pod(namespace, wanted, query.signal, self.now, label=LABELS[query.scope])

    def rows(self, query: Query) -> Fact[tuple[Row, ...]]:
        answer = self._answer(query)
        if isinstance(answer, Unknown):
            return answer
        wanted, namespace = self.scopes[query.scope], self.knowledgebeast.namespace
        found = answer.rows(LABELS[query.scope], wanted, None if query.scope is Scope.NODES else namespace)
        return Known(found, self.now) if found else answer.no_series(query.signal, namespace, len(wanted))

    def _answer(self, query: Query) -> Answer | Unknown:
        answer = self.answers.get(self.questions[query.name])
        if answer is None:
            name = self.knowledgebeast.spec.prometheus.target
            return Unknown(
                query.signal,
                "UnknownPrometheusTarget",
                f"spec.prometheus.target names {name!r}, which the operator's configuration does not have.",
            )
        if isinstance(answer, PrometheusUnreachable):
            return Unknown(query.signal, "PrometheusUnreachable", f"Prometheus could not be asked: {answer}")
        return answer
