"""Whether each object's signals can be read, for the alert: one series for each object, gone with it."""

from typing import Final

from prometheus_client import Gauge

from knowledgebeast_operator.core.conditions import Status, signals_available
from knowledgebeast_operator.core.overview import Overview
from knowledgebeast_operator.record.object_series import LABELS, ObjectSeries

SIGNALS_AVAILABLE: Final = Gauge(
    "knowledgebeast_signals_available",
    "1 while every runbook can tell, 0 while a signal is missing (condition SignalsAvailable).",
    LABELS,
)


class SignalGauge:
    """Sets the series of each object, and removes it when the object goes."""

    def __init__(self) -> None:
        self._series = ObjectSeries((SIGNALS_AVAILABLE,))

    def report(self, overview: Overview) -> None:
        """Sets the series of one object; an object that nobody has assessed has none."""
        status = signals_available(overview.turns).status
        if status is not Status.UNKNOWN:
            labels = self._series.labels_of(overview.facts.subject)
            SIGNALS_AVAILABLE.labels(*labels).set(float(status is Status.TRUE))

    def forget(self, uid: str) -> None:
        """Removes the series of a deleted object."""
        self._series.forget(uid)
