"""One `Facts` for one object: Prometheus is asked for all signals at once, the cluster is read from the watches."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from knowledgebeast_operator.cluster.watched import Indexes, Key
from knowledgebeast_operator.core.facts import Fact, Facts, Known, PerPod, Pod, Subject, Unknown
from knowledgebeast_operator.core.ledger import IncidentRecord
from knowledgebeast_operator.custom_resource import KnowledgeBeast
from knowledgebeast_operator.custom_resource.names import CHROMA, COMPONENT_LABEL, SERVICE
from knowledgebeast_operator.errors import PrometheusUnreachable
from knowledgebeast_operator.signals import queries
from knowledgebeast_operator.signals.cluster import ObservedPod, observe_node, observe_pod
from knowledgebeast_operator.signals.own_work import own_work
from knowledgebeast_operator.signals.prometheus import Prometheus
from knowledgebeast_operator.signals.queries import Query
from knowledgebeast_operator.signals.samples import Answer

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


DEFAULT_SCRAPE_INTERVAL = timedelta(seconds=10)
"""Assumed where the object names an unknown Prometheus: all its signals are unknown anyway."""


async def gather(
    sources: Sources,
    knowledgebeast: KnowledgeBeast,
    *,
    incidents: Iterable[IncidentRecord],
    history: timedelta,
    now: datetime,
) -> Facts:
    """Everything that is known about one object now. Never raises for a missing signal: that is a value.

    Args:
        sources: where to ask.
        knowledgebeast: the object.
        incidents: its open incidents, for what is under way.
        history: how far back the samples are needed.
        now: the time of this tick (UTC).
    """
    key: Key = (knowledgebeast.namespace, knowledgebeast.name)
    pods = [
        observe_pod(item.value, item.meta.labels.get(COMPONENT_LABEL, "")) for item in sources.indexes.pods.get(key, ())
    ]
    nodes = {node.name: node for node in (observe_node(item.value) for item in sources.indexes.nodes.get(("", ""), ()))}
    work = own_work(
        pods=pods,
        operands=[item.value for item in sources.indexes.operands.get(key, ())],
        nodes=nodes,
        incidents=incidents,
        now=now,
    )
    is_fresh = sources.is_watch_fresh(knowledgebeast.namespace)
    target = sources.targets.get(knowledgebeast.spec.prometheus.target)
    ask = _Asker(target, knowledgebeast, [item.pod.name for item in pods if item.component == SERVICE], history, now)
    async with asyncio.TaskGroup() as group:
        breaker = group.create_task(ask.per_pod(queries.BREAKER_STATE))
        ratio = group.create_task(ask.per_pod(queries.CANARY_SUCCESS_RATIO))
        finished = group.create_task(ask.per_pod(queries.CANARY_TIMESTAMP))
        degraded = group.create_task(ask.per_pod(queries.DEGRADED_MODE))
        errors = group.create_task(ask.error_ratio(queries.REQUESTS))
    return Facts(
        now=now,
        subject=Subject(knowledgebeast.namespace, knowledgebeast.name, knowledgebeast.uid, knowledgebeast.generation),
        scrape_interval=target.scrape_interval if target else DEFAULT_SCRAPE_INTERVAL,
        service_pods=_seen(_of(pods, SERVICE), "service_pods", is_fresh, now),
        chroma_pods=_seen(_of(pods, CHROMA), "chroma_pods", is_fresh, now),
        nodes=_seen(nodes, "nodes", is_fresh, now),
        breaker_state=breaker.result(),
        canary_success_ratio=ratio.result(),
        canary_timestamp=finished.result(),
        degraded_mode=degraded.result(),
        error_ratio=errors.result(),
        own_work=work,
        canary_interval=timedelta(seconds=knowledgebeast.spec.service.config.canary_interval_seconds),
    )


def _of(pods: Iterable[ObservedPod], component: str) -> tuple[Pod, ...]:
    return tuple(sorted((item.pod for item in pods if item.component == component), key=lambda pod: pod.name))


def _seen(value: T, signal: str, is_fresh: bool, now: datetime) -> Fact[T]:
    if is_fresh:
        return Known(value, now)
    return Unknown(signal, "WatchStale", f"The watch of {signal} has been silent while the cluster changed.")


@dataclass(frozen=True, slots=True)
class _Asker:
    """The questions of one tick; every failure becomes an Unknown that names the query."""

    target: Target | None
    knowledgebeast: KnowledgeBeast
    pods: list[str]
    history: timedelta
    now: datetime

    async def per_pod(self, query: Query) -> Fact[PerPod]:
        answer = await self._answer(query)
        if isinstance(answer, Unknown):
            return answer
        return answer.per_pod(self.knowledgebeast.namespace, self.pods, query.signal, self.now)

    async def error_ratio(self, query: Query) -> Fact[float]:
        answer = await self._answer(query)
        if isinstance(answer, Unknown):
            return answer
        return answer.error_ratio(self.knowledgebeast.namespace, self.pods, self.now)

    async def _answer(self, query: Query) -> Answer | Unknown:
        promql = query.promql(self.history)
        if self.target is None:
            name = self.knowledgebeast.spec.prometheus.target
            return Unknown(
                query.signal,
                "UnknownPrometheusTarget",
                f"spec.prometheus.target names {name!r}, which the operator's configuration does not have.",
            )
        try:
            return await self.target.client.query(promql)
        except PrometheusUnreachable as error:
            return Unknown(query.signal, "PrometheusUnreachable", f"Prometheus could not be asked: {error}")
