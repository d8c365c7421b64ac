"""Kubernetes events on the KnowledgeBeast: what `kubectl describe` shows. Best effort; the Incident is the record.

An event is named after what it says, so the same one is posted once, also by the operator's successor.
"""

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from knowledgebeast_operator.cluster.client import Cluster
from knowledgebeast_operator.cluster.kinds import EVENT
from knowledgebeast_operator.core.facts import Pod, Subject
from knowledgebeast_operator.core.ledger import IncidentRecord
from knowledgebeast_operator.core.overview import Turn
from knowledgebeast_operator.core.runbook import NotDetected
from knowledgebeast_operator.custom_resource import API_VERSION, FIELD_MANAGER, KIND
from knowledgebeast_operator.errors import AlreadyExists, ClusterError, ClusterUnreachable
from knowledgebeast_operator.record.metrics import BLOCKED_REASONS, EVENTS_LOST

logger = logging.getLogger(__name__)

WARNINGS: Final = frozenset(
    {
        "ApplyConflict",
        "ApplyFailed",
        "ClientErrors",
        "IncidentDetected",
        "IncidentEscalated",
        "IncidentWorsened",
        "KubeletRestartedChroma",
        "ReconcileError",
        "RemediationBlocked",
        "RemediationFailed",
        "RemediationInconclusive",
        "SignalsUnknown",
    }
)

REMEMBERED: Final = 1000
MAX_MESSAGE: Final = 1024
"""The API server's limit for the message of an event."""

RECENT: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to tell; `key` makes it the same notice when it is told again."""

    reason: str
    message: str
    key: str


def timeline_notices(before: IncidentRecord | None, after: IncidentRecord) -> Iterable[Notice]:
    """What a transition has added to an incident's story."""
    known = frozenset(before.timeline if before else ())
    for entry in after.timeline:
        if entry in known:
            continue
        key = f"{after.name}/{entry.at.isoformat()}/{entry.reason}"
        if entry.reason in BLOCKED_REASONS:
            yield Notice("RemediationBlocked", f"{after.name}: {entry.reason}: {entry.message}", key)
        else:
            yield Notice(entry.reason, f"{after.name}: {entry.message}", key)


def kubelet_restarts(chroma_pods: Iterable[Pod], now: datetime) -> Iterable[Notice]:
    """Restarts of Chroma's container by the kubelet. They are recorded; nothing is done a second time."""
    for pod in chroma_pods:
        container = pod.container
        if container is None or not container.restart_count or container.last_finished_at is None:
            continue
        if now - container.last_finished_at < RECENT:
            yield Notice(
                "KubeletRestartedChroma",
                f"The kubelet restarted Chroma in pod {pod.name} (restart {container.restart_count}; it had ended with "
                f"{container.last_exit_reason or 'no reason'}, exit code {container.last_exit_code}).",
                f"{pod.uid}/{container.restart_count}",
            )


def told_without_incident(turns: Iterable[Turn], now: datetime) -> Iterable[Notice]:
    """What people should know though it is no incident, such as what clients do wrong (4B): once an hour."""
    for turn in turns:
        diagnosis = turn.situation.diagnosis
        if isinstance(diagnosis, NotDetected) and diagnosis.is_told:
            yield Notice(diagnosis.reason, diagnosis.message, f"{now:%Y-%m-%dT%H}")


@dataclass(slots=True)
class EventRecorder:
    """Posts notices about objects, each once."""

    cluster: Cluster
    identity: str
    _posted: "OrderedDict[str, None]" = field(default_factory=OrderedDict[str, None])

    async def post(self, subject: Subject, notices: Iterable[Notice], now: datetime) -> None:
        """Posts what has not been posted yet. A failure is counted and logged: the loop does not depend on events."""
        for notice in notices:
            name = _name(subject, notice)
            if name in self._posted:
                continue
            try:
                await self.cluster.create(EVENT, subject.namespace, self._body(subject, notice, name, now))
            except AlreadyExists:
                logger.debug("event %s had been posted already", name)
            except (ClusterError, ClusterUnreachable) as error:
                EVENTS_LOST.inc()
                logger.warning("event %s was not posted: %s", notice.reason, error)
                continue
            self._posted[name] = None
            while len(self._posted) > REMEMBERED:
                self._posted.popitem(last=False)

    def _body(self, subject: Subject, notice: Notice, name: str, now: datetime) -> dict[str, object]:
        at = now.replace(microsecond=0).isoformat().replace("+00:00", "Z")
        return {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.name,
            "metadata": {"name": name, "namespace": subject.namespace},
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "name": subject.name,
                "namespace": subject.namespace,
                "uid": subject.uid,
            },
            "reason": notice.reason,
            "message": notice.message[:MAX_MESSAGE],
            "type": "Warning" if notice.reason in WARNINGS else "Normal",
            "source": {"component": FIELD_MANAGER},
            "firstTimestamp": at,
            "lastTimestamp": at,
            "count": 1,
            "reportingComponent": FIELD_MANAGER,
            "reportingInstance": self.identity[:128],
        }


def _name(subject: Subject, notice: Notice) -> str:
    text = f"{subject.uid}/{notice.reason}/{notice.key}"
    return f"{subject.name}.{hashlib.sha256(text.encode()).hexdigest()[:16]}"
