"""The Incident objects: the operator's memory. Every write carries the resourceVersion that was read: it is the claim.

The watch lags behind our own writes for a moment. Until it has caught up, what was written counts, so that a tick
never decides on an Incident as it was before the tick before it.
"""

import logging
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from knowledgebeast_operator.cluster.client import Cluster, Json
from knowledgebeast_operator.cluster.kinds import INCIDENT
from knowledgebeast_operator.cluster.objects import Meta
from knowledgebeast_operator.core.ledger import IncidentRecord, Journal, Outcome, TimelineEntry
from knowledgebeast_operator.custom_resource import KnowledgeBeast, names
from knowledgebeast_operator.errors import AlreadyExists, ClaimLost, Conflict, NotFound
from knowledgebeast_operator.record.incident_body import (
    UnreadableIncidentError,
    is_manual,
    new_body,
    record_of,
    subject_uid,
    with_status,
)

logger = logging.getLogger(__name__)

CATCH_UP_SECONDS: Final = 30.0
"""After which what the watch shows counts again: somebody has deleted what we wrote."""


@dataclass(frozen=True, slots=True)
class StoredIncident:
    """A live Incident and what it says."""

    body: Json
    record: IncidentRecord

    @property
    def meta(self) -> Meta:
        return Meta.model_validate(self.body["metadata"])

    def is_about(self, uid: str) -> bool:
        """Whether it is about the object with this uid, and not about an earlier one of the same name.

        A person may leave the uid out; what was open of theirs has been closed when the earlier object went.
        """
        return subject_uid(self.body) in (uid, None)


@dataclass(frozen=True, slots=True)
class _Written:
    """Our last write of one Incident: the versions before it (None: it did not exist), and the answer."""

    superseded: frozenset[str | None]
    body: Json
    at: float


@dataclass(slots=True)
class IncidentStore:
    """The Incidents of one KnowledgeBeast."""

    cluster: Cluster
    clock: Callable[[], float] = time.monotonic
    _written: dict[str, _Written] = field(default_factory=dict[str, _Written])
    _deleted: set[str] = field(default_factory=set[str])

    def read(self, watched: Iterable[Json]) -> tuple[StoredIncident, ...]:
        """All readable Incidents, newest last: as the watch shows them, or as we wrote them where it lags."""
        bodies = {Meta.model_validate(body["metadata"]).name: body for body in watched}
        for name, written in list(self._written.items()):
            shown = bodies.get(name)
            version = Meta.model_validate(shown["metadata"]).resource_version if shown else None
            if version in written.superseded and self.clock() - written.at < CATCH_UP_SECONDS:
                bodies[name] = written.body
            else:
                del self._written[name]
        found = [stored for body in bodies.values() if (stored := _readable(body)) is not None]
        return tuple(sorted(found, key=lambda stored: (stored.record.opened_at, stored.record.number)))

    async def open(self, knowledgebeast: KnowledgeBeast, record: IncidentRecord) -> StoredIncident:
        """Creates the Incident and writes its status.

        Raises:
            ClaimLost: an Incident of this name exists, so another operator was faster.
        """
        try:
            body = await self.cluster.create(INCIDENT, knowledgebeast.namespace, new_body(knowledgebeast, record))
        except AlreadyExists as error:
            raise ClaimLost(f"{record.name} exists already") from error
        self._remember(None, body)
        return await self._write(StoredIncident(body, record), record)

    async def update(self, stored: StoredIncident, record: IncidentRecord) -> StoredIncident:
        """Writes the record if the Incident is still as it was read; nothing when nothing changed.

        Raises:
            ClaimLost: it has changed, or is gone.
        """
        if record == stored.record:
            return stored
        return await self._write(stored, record)

    async def prune(self, incidents: Iterable[StoredIncident], *, keep: int, max_age: timedelta, now: datetime) -> None:
        """Deletes resolved Incidents that are too many or too old, oldest first. Open ones are never deleted."""
        resolved = [stored for stored in incidents if stored.record.resolved_at is not None]
        resolved.sort(key=lambda stored: stored.record.resolved_at or now, reverse=True)
        for position, stored in enumerate(resolved):
            is_old = now - (stored.record.resolved_at or now) > max_age
            if (position < keep and not is_old) or stored.meta.uid in self._deleted:
                continue
            self._deleted.add(stored.meta.uid)
            try:
                await self.cluster.delete(
                    INCIDENT,
                    stored.meta.namespace,
                    stored.record.name,
                    uid=stored.meta.uid,
                    resource_version=stored.meta.resource_version,
                    timeout_seconds=3,
                )
            except (NotFound, Conflict):
                logger.info("%s is gone or has changed; it is looked at again", stored.record.name)

    async def _write(self, stored: StoredIncident, record: IncidentRecord) -> StoredIncident:
        body = with_status(stored.body, record)
        try:
            written = await self.cluster.replace(INCIDENT, stored.meta.namespace, body, subresource="status")
        except (Conflict, NotFound) as error:
            await self._catch_up(stored)
            raise ClaimLost(f"{record.name} was changed or deleted by somebody else") from error
        self._remember(stored.meta.resource_version, written)
        return StoredIncident(written, record)

    async def live(self, namespace: str) -> tuple[StoredIncident, ...]:
        """All readable Incidents of a namespace as they are now, whatever the watch shows."""
        found = [_readable(body) for body in await self.cluster.list_objects(INCIDENT, namespace)]
        return tuple(stored for stored in found if stored is not None)

    async def _catch_up(self, stored: StoredIncident) -> None:
        """Somebody wrote after us, or the reply to our own write was lost: what is live counts from here on.

        The watch may be further behind than what we wrote before, and what it shows must not be acted on.
        """
        for body in await self.cluster.list_objects(INCIDENT, stored.meta.namespace):
            if Meta.model_validate(body["metadata"]).uid == stored.meta.uid:
                whole = {"apiVersion": INCIDENT.api_version, "kind": INCIDENT.name, **body}
                self._remember(stored.meta.resource_version, whole)
                return
        self._written.pop(stored.record.name, None)

    def _remember(self, previous_version: str | None, body: Json) -> None:
        name = Meta.model_validate(body["metadata"]).name
        earlier = self._written[name].superseded if name in self._written else frozenset[str | None]()
        self._written[name] = _Written(earlier | {previous_version}, body, self.clock())


def _readable(body: Json) -> StoredIncident | None:
    """None for one that another version wrote."""
    if subject_uid(body) is None and not is_manual(body):
        return None
    try:
        return StoredIncident(body, record_of(body))
    except UnreadableIncidentError as error:
        logger.warning("an Incident cannot be read and is left alone: %s", error)
        return None


def open_incident(incidents: Iterable[StoredIncident], runbook: str, uid: str) -> StoredIncident | None:
    """The open Incident of a runbook about the object with this uid, the latest should there be several."""
    matching = [
        stored
        for stored in incidents
        if stored.record.runbook == runbook
        and stored.record.is_open
        and not stored.record.is_manual
        and stored.is_about(uid)
    ]
    return matching[-1] if matching else None


def records_about(incidents: Iterable[StoredIncident], uid: str) -> list[IncidentRecord]:
    """Those about the object with this uid. A check of an earlier object's database says nothing about this one's, and
    what was done to that one's pods is no reason to leave these alone.
    """
    return [stored.record for stored in incidents if stored.is_about(uid)]


def manual(incidents: Iterable[StoredIncident]) -> list[StoredIncident]:
    """The open ones that people made, oldest first."""
    return [stored for stored in incidents if stored.record.is_open and stored.record.is_manual]


def next_number(incidents: Iterable[StoredIncident], journal: Journal, runbook: str) -> int:
    """The running number of the next Incident: above all that exist, and above those that only attempts recall."""
    taken = [stored.record.number for stored in incidents if stored.record.runbook == runbook]
    pattern = re.compile(rf"-{re.escape(names.kebab(runbook))}-(\d+)-\d+$")
    recalled = [int(found.group(1)) for attempt in journal.attempts if (found := pattern.search(attempt.id))]
    return max([0, *taken, *recalled]) + 1


def orphan_closed(record: IncidentRecord, now: datetime) -> IncidentRecord:
    """The record of an open Incident whose object has been deleted: nothing will ever happen to it again.

    Its attempt ends with it, or the next object of the name would wait for that for ever.
    """
    message = "The KnowledgeBeast was deleted while this was open; nobody watched on."
    entry = TimelineEntry(at=now, reason="ObjectDeleted", message=message)
    ended = {"finished": now, "outcome": Outcome.INCONCLUSIVE, "message": message}
    attempts = tuple(one if one.finished else one.model_copy(update=ended) for one in record.attempts)
    timeline = (*record.timeline, entry)[-50:]
    return record.model_copy(update={"resolved_at": now, "attempts": attempts, "timeline": timeline})
