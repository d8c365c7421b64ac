"""Series that each object has for itself: set while it is there, gone with it.

The labels are not called `namespace`, which Prometheus gives to the operator's own.
"""

from collections.abc import Iterable
from typing import Final

from prometheus_client import Gauge

from knowledgebeast_operator.core.facts import Subject

LABELS: Final = ("object_namespace", "object")


class ObjectSeries:
    """Which object has which labels in these gauges."""

    def __init__(self, gauges: Iterable[Gauge]) -> None:
        self._gauges = tuple(gauges)
        self._labels: dict[str, tuple[str, str]] = {}

    def labels_of(self, subject: Subject) -> tuple[str, str]:
        """The label values of an object, which is remembered."""
        labels = self._labels[subject.uid] = (subject.namespace, subject.name)
        return labels

    def forget(self, uid: str) -> None:
        """Removes the series of a deleted object, unless a new one has its name."""
        labels = self._labels.pop(uid, None)
        for gauge in self._gauges if labels is not None and labels not in self._labels.values() else ():
            try:
                gauge.remove(*labels or ())
            except KeyError:
                continue  # nothing was ever known
