"""What of all that the watches have shown is an object's own."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from knowledgebeast_operator.cluster.client import Json
from knowledgebeast_operator.cluster.kinds import CLAIM, POD, STORAGE_CLASS
from knowledgebeast_operator.cluster.objects import LiveNode, LiveOperand, LivePod, LiveStorageClass
from knowledgebeast_operator.cluster.watched import Indexes, Key, Watched
from knowledgebeast_operator.core.approvals import Approval
from knowledgebeast_operator.core.facts import Facts, Known, Volume
from knowledgebeast_operator.core.overlays import Overlays
from knowledgebeast_operator.custom_resource.names import COMPONENT_LABEL, SERVICE, UID_LABEL
from knowledgebeast_operator.signals.gather import Sources, gather
from operand_objects import knowledge_beast

NOW = datetime(2026, 1, 7, 12, 0, tzinfo=UTC)
META = {"resourceVersion": "1", "creationTimestamp": "2026-01-07T00:00:00Z"}
GIB = 1024**3


def claim(name: str, size: str, storage_class: str | None) -> Watched[LiveOperand]:
    body = {
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "uid": f"uid-{name}", **META},
        "spec": {"resources": {"requests": {"storage": size}}, "storageClassName": storage_class},
    }
    live = LiveOperand.model_validate(body)
    return Watched(CLAIM, live.metadata, live)


def storage_class(name: str, **fields: object) -> Watched[LiveStorageClass]:
    live = LiveStorageClass.model_validate({"metadata": {"name": name, "uid": name, **META}, **fields})
    return Watched(STORAGE_CLASS, live.metadata, live)


def pod(name: str, **labels: str) -> Watched[LivePod]:
    metadata = {"name": name, "uid": name, "labels": {COMPONENT_LABEL: SERVICE, **labels}, **META}
    live = LivePod.model_validate({"metadata": metadata})
    return Watched(POD, live.metadata, live)


async def facts(
    claims: Sequence[Watched[LiveOperand]] = (),
    classes: Sequence[Watched[LiveStorageClass]] = (),
    pods: Sequence[Watched[LivePod]] = (),
) -> Facts:
    kb = knowledge_beast()
    nothing: dict[Key, list[Watched[Json]]] = {}
    nodes: dict[Key, list[Watched[LiveNode]]] = {}
    approvals: dict[Key, list[Watched[Approval]]] = {}
    indexes = Indexes(
        objects=nothing,
        pods={(kb.namespace, kb.name): pods},
        operands={(kb.namespace, kb.name): claims},
        nodes=nodes,
        incidents=nothing,
        approvals=approvals,
        storage_classes={("", ""): classes},
    )
    return await gather(
        Sources(indexes, {}, lambda namespace: True),
        kb,
        incidents=(),
        status={},
        overlays=Overlays(),
        windows={},
        now=NOW,
    )


async def volumes(
    claims: Sequence[Watched[LiveOperand]], classes: Sequence[Watched[LiveStorageClass]]
) -> Mapping[str, Volume]:
    found = (await facts(claims, classes)).volumes
    assert isinstance(found, Known)
    return found.value


async def test_each_volume_has_its_size_and_whether_its_class_can_expand() -> None:
    claims = [
        claim("demo-database", "10Gi", "fast"),
        claim("demo-backups", "10737418240", "fixed"),
        claim("demo-chroma", "1e9", None),
        claim("demo-other", "1Gi", "fast"),
    ]
    found = await volumes(claims, [storage_class("fast", allowVolumeExpansion=True), storage_class("fixed")])
    assert found == {
        "database": Volume("demo-database", "uid-demo-database", 10 * GIB, "fast", allows_expansion=True),
        "backups": Volume("demo-backups", "uid-demo-backups", 10 * GIB, "fixed", allows_expansion=False),
        "chroma": Volume("demo-chroma", "uid-demo-chroma", None, None, allows_expansion=None),
    }


async def test_a_class_that_nobody_has_seen_is_unknown() -> None:
    found = await volumes([claim("demo-database", "10Gi", "gone")], [])
    assert found["database"].allows_expansion is None


async def test_pods_of_a_deleted_object_of_the_same_name_do_not_count() -> None:
    own = knowledge_beast().uid
    pods = [pod("demo-1", **{UID_LABEL: own}), pod("demo-0", **{UID_LABEL: "deleted"}), pod("from-before-the-label")]
    found = (await facts(pods=pods)).service_pods
    assert isinstance(found, Known)
    assert {one.name for one in found.value} == {"demo-1", "from-before-the-label"}
