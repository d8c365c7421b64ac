"""What the watches have shown, by object: filled by kopf's indexes, read by every tick.

kopf starts the daemons only when the first listing of every indexed kind is complete, so an empty answer means that
there is nothing, not that nothing has been seen yet.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

from knowledgebeast_operator.cluster.client import Json
from knowledgebeast_operator.cluster.kinds import Kind
from knowledgebeast_operator.cluster.objects import LiveNode, LiveOperand, LivePod, LiveStorageClass, Meta
from knowledgebeast_operator.core.approvals import Approval
from knowledgebeast_operator.custom_resource.names import NAME_LABEL

T_co = TypeVar("T_co", covariant=True)

Key: TypeAlias = tuple[str, str]
"""Namespace and name of the KnowledgeBeast; both empty for kinds that belong to none."""


@dataclass(frozen=True, slots=True)
class Watched(Generic[T_co]):
    """One live object as the watch showed it last."""

    kind: Kind
    meta: Meta
    value: T_co

    @property
    def version(self) -> tuple[str, str]:
        """(uid, resourceVersion)."""
        return (self.meta.uid, self.meta.resource_version)


Index: TypeAlias = Mapping[Key, Iterable[Watched[T_co]]]
"""kopf's index: all watched objects of some kinds by the KnowledgeBeast that they belong to."""


@dataclass(frozen=True, slots=True)
class Indexes:
    """All indexes of the operator; live views, so a tick reads them once, without awaiting in between."""

    objects: Index[Json]
    pods: Index[LivePod]
    operands: Index[LiveOperand]
    nodes: Index[LiveNode]
    incidents: Index[Json]
    approvals: Index[Approval]
    storage_classes: Index[LiveStorageClass] = field(default_factory=dict[Key, Iterable[Watched[LiveStorageClass]]])

    def object_body(self, key: Key) -> Json | None:
        """The KnowledgeBeast itself; None when it does not exist (any more)."""
        return next((item.value for item in self.objects.get(key, ())), None)

    def versions(self, kind: Kind, namespace: str | None) -> frozenset[tuple[str, str]]:
        """(uid, resourceVersion) of everything of a kind in a namespace, for comparing with a live list."""
        indexes: tuple[Mapping[Key, Iterable[Watched[object]]], ...] = (
            self.objects,
            self.pods,
            self.operands,
            self.nodes,
            self.incidents,
            self.approvals,
            self.storage_classes,
        )
        return frozenset(
            item.version
            for index in indexes
            for items in index.values()
            for item in items
            if item.kind == kind and (namespace is None or item.meta.namespace == namespace)
        )


def key_of(meta: Meta) -> Key:
    """The KnowledgeBeast that an object belongs to, by its label and namespace."""
    return (meta.namespace, meta.labels[NAME_LABEL])
