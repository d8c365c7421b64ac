"""kopf wiring: which watches fill which index, and one daemon per KnowledgeBeast. All decorators of the operator.

Indexes and events only; no handlers of edges (create, update), which would write their progress into annotations.
Started by `__main__`, and only while this process leads.
"""

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import kopf

from knowledgebeast_operator.cluster import kinds
from knowledgebeast_operator.cluster.approvals import read_approval
from knowledgebeast_operator.cluster.client import Json
from knowledgebeast_operator.cluster.kinds import Kind
from knowledgebeast_operator.cluster.objects import LiveNode, LiveOperand, LivePod, LiveStorageClass, Meta
from knowledgebeast_operator.cluster.watched import Indexes, Key, Watched, key_of
from knowledgebeast_operator.core.approvals import Approval
from knowledgebeast_operator.custom_resource import FINALIZER, GROUP
from knowledgebeast_operator.custom_resource.names import NAME_LABEL
from knowledgebeast_operator.dependencies import Dependencies
from knowledgebeast_operator.record.incident_body import subject_name

OWNED = {NAME_LABEL: kopf.PRESENT}
"""Objects that belong to a KnowledgeBeast."""

MAX_BACKOFF_SECONDS = 30.0


class EndlessBackoffs:
    """Delays for ever: with kopf's finite default a watch dies after a minute of an API server's errors, silently."""

    def __iter__(self) -> Iterator[float]:
        delay = 1.0
        while True:
            yield delay * random.uniform(0.5, 1.0)
            delay = min(MAX_BACKOFF_SECONDS, delay * 2)


@kopf.on.startup()
async def configure(settings: kopf.OperatorSettings, memo: Any, **indexes: Any) -> None:
    """Settles kopf's settings and starts the watchdog."""
    settings.persistence.finalizer = FINALIZER
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=GROUP)
    settings.posting.enabled = False  # events are posted by `record.events`, each once
    settings.scanning.disabled = True  # it would need the right to list namespaces and definitions
    settings.watching.server_timeout = 600
    settings.watching.connect_timeout = 10
    settings.watching.inactivity_timeout = 70
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    settings.networking.error_backoffs = EndlessBackoffs()  # pyright: ignore[reportAttributeAccessIssue]
    settings.background.instant_exit_timeout = 1.0  # a daemon ends within a moment, so a deletion needs one round only
    settings.process.ultimate_exiting_timeout = 60
    for kind in (kinds.POD, *kinds.OPERANDS):
        settings.watching.label_selectors[kind.resource] = NAME_LABEL
    dependencies: Dependencies = memo.dependencies
    dependencies.start(Indexes(**{name: indexes[name] for name in Indexes.__slots__}))


@kopf.on.cleanup()
async def stop(memo: Any, **_: Any) -> None:
    """Ends the watchdog."""
    dependencies: Dependencies = memo.dependencies
    await dependencies.stop()


@kopf.index(*kinds.KNOWLEDGE_BEAST.resource)
async def objects(body: kopf.Body, **_: Any) -> dict[Key, Watched[Json]]:
    """The KnowledgeBeasts."""
    meta = Meta.model_validate(body["metadata"])
    return {(meta.namespace, meta.name): Watched(kinds.KNOWLEDGE_BEAST, meta, dict(body))}


@kopf.index(*kinds.POD.resource, labels=OWNED)
async def pods(body: kopf.Body, **_: Any) -> dict[Key, Watched[LivePod]]:
    """Their pods."""
    live = LivePod.model_validate(dict(body))
    return {key_of(live.metadata): Watched(kinds.POD, live.metadata, live)}


@kopf.index(*kinds.NODE.resource)
async def nodes(body: kopf.Body, **_: Any) -> dict[Key, Watched[LiveNode]]:
    """All nodes."""
    live = LiveNode.model_validate(dict(body))
    return {("", ""): Watched(kinds.NODE, live.metadata, live)}


@kopf.index(*kinds.STORAGE_CLASS.resource)
async def storage_classes(body: kopf.Body, **_: Any) -> dict[Key, Watched[LiveStorageClass]]:
    """All classes of volumes: which of them can grow."""
    live = LiveStorageClass.model_validate(dict(body))
    return {("", ""): Watched(kinds.STORAGE_CLASS, live.metadata, live)}


@kopf.index(*kinds.INCIDENT.resource)
async def incidents(body: kopf.Body, **_: Any) -> dict[Key, Watched[Json]]:
    """Their Incidents, those that people make included."""
    meta = Meta.model_validate(body["metadata"])
    return {(meta.namespace, subject_name(body)): Watched(kinds.INCIDENT, meta, dict(body))}


@kopf.index(*kinds.INCIDENT_APPROVAL.resource)
async def approvals(body: kopf.Body, **_: Any) -> dict[Key, Watched[Approval]]:
    """What people have allowed, by namespace."""
    meta, approval = Meta.model_validate(body["metadata"]), read_approval(body)
    return {(meta.namespace, ""): Watched(kinds.INCIDENT_APPROVAL, meta, approval)} if approval is not None else {}


async def operands(body: kopf.Body, param: Any = None, **_: Any) -> dict[Key, Watched[LiveOperand]]:
    """Their operands, of all kinds in one index."""
    kind: Kind = param
    live = LiveOperand.model_validate({**body, "kind": kind.name})  # objects in a list carry no kind
    return {key_of(live.metadata): Watched(kind, live.metadata, live)}


for operand_kind in kinds.OPERANDS:
    kopf.index(*operand_kind.resource, id="operands", param=operand_kind, labels=OWNED)(operands)


@kopf.on.event(*kinds.POD.resource, labels=OWNED)
async def wake_for_pod(meta: kopf.Meta, memo: Any, **_: Any) -> None:
    """A pod that comes, goes or changes is looked at now."""
    memo.dependencies.wakeups.wake((str(meta.namespace), meta.labels[NAME_LABEL]))


@kopf.on.event(*kinds.INCIDENT.resource)
async def wake_for_incident(event: kopf.RawEvent, body: kopf.Body, memo: Any, **_: Any) -> None:
    """One that a person has made is looked at now; our own writes change nothing that is not known."""
    if event["type"] == "ADDED":
        memo.dependencies.wakeups.wake((str(body.metadata.namespace), subject_name(body)))


@kopf.on.event(*kinds.INCIDENT_APPROVAL.resource)
async def wake_for_approval(meta: kopf.Meta, memo: Any, **_: Any) -> None:
    """Whoever waits for it in that namespace is looked at now."""
    memo.dependencies.wakeups.wake_namespace(str(meta.namespace))


@kopf.on.event(*kinds.KNOWLEDGE_BEAST.resource)
async def wake_for_object(meta: kopf.Meta, memo: Any, **_: Any) -> None:
    """A changed spec or annotation is looked at now."""
    key = (str(meta.namespace), str(meta.name))
    memo.dependencies.wakeups.wake_when_asked(key, meta.get("generation"), meta.annotations)


@kopf.daemon(*kinds.KNOWLEDGE_BEAST.resource, cancellation_timeout=10.0)
async def operate(namespace: str | None, name: str, uid: str, memo: Any, stopped: kopf.DaemonStopped, **_: Any) -> None:
    """One loop per object, until the object is deleted or the operator ends."""
    dependencies: Dependencies = memo.dependencies
    loop = asyncio.get_running_loop()
    tasks = (
        loop.create_task(dependencies.loop.serve((namespace or "", name), uid)),
        asyncio.ensure_future(stopped.wait()),
    )
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if stopped.reason and kopf.DaemonStoppingReason.RESOURCE_DELETED in stopped.reason:
        await dependencies.loop.farewell((namespace or "", name))
