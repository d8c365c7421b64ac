"""Leadership: the loop around `lease`. One process acts; the others stand by and take over.

Nothing destructive is sent without `require()`. A process that cannot be sure of its lease any more ends at once,
because whatever it has in flight would be unfenced; the kubelet starts it again as a standby.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final, NoReturn, Protocol, cast

from knowledgebeast_operator.cluster.client import Cluster, Json
from knowledgebeast_operator.cluster.kinds import LEASE
from knowledgebeast_operator.errors import (
    AlreadyExists,
    ClusterError,
    ClusterUnreachable,
    Conflict,
    NotFound,
    NotLeader,
)
from knowledgebeast_operator.lease import (
    Keep,
    LeaseRecord,
    Sighting,
    StandBy,
    Take,
    next_step,
    see,
    trusted_until,
)

logger = logging.getLogger(__name__)

EXIT_CODE_LEASE_LOST: Final = 70
"""EX_SOFTWARE of sysexits.h; tells a lost lease from other exits in `kubectl describe pod`."""


class LeaseStore(Protocol):
    """Where the lease is kept; a compare-and-swap register."""

    async def read(self) -> LeaseRecord | None:
        """The lease, or None when there is none yet."""
        ...

    async def write(self, record: LeaseRecord | None, *, holder: str | None, transitions: int) -> LeaseRecord:
        """Replaces `record`, or creates the lease where it is None.

        Raises:
            Conflict, AlreadyExists: somebody else wrote it first.
        """
        ...


def exit_at_once(why: str) -> NoReturn:
    """Ends the process without another await: nothing may run on after the lease is in doubt."""
    logger.critical("exiting: %s", why)
    logging.shutdown()
    os._exit(EXIT_CODE_LEASE_LOST)


class Leadership:
    """The lease as seen by one process. `campaign()`, then `hold()` until `release()`."""

    def __init__(
        self,
        store: LeaseStore,
        *,
        identity: str,
        duration_seconds: float,
        renew_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        give_up: Callable[[str], None] = exit_at_once,
    ) -> None:
        self.identity = identity
        self._store = store
        self._duration_seconds = duration_seconds
        self._renew_seconds = renew_seconds
        self._clock = clock
        self._give_up = give_up
        self._sighting: Sighting | None = None
        self._trusted_until = float("-inf")

    def is_leader(self) -> bool:
        """Whether this process may act now, and in the few seconds that one request takes."""
        return self._clock() < self._trusted_until

    def require(self) -> None:
        """The fence before a destructive request.

        Raises:
            NotLeader: the lease is not certainly ours.
        """
        if not self.is_leader():
            raise NotLeader(f"{self.identity} cannot be sure to hold the lease; nothing was sent")

    async def campaign(self) -> None:
        """Returns when this process leads."""
        while True:
            if await self._try_to_take():
                break
            await asyncio.sleep(self._renew_seconds)
        logger.info("leading as %s", self.identity)

    async def hold(self) -> None:
        """Renews for ever; gives up (ends the process) when the lease is lost or cannot be renewed in time."""
        while True:
            await asyncio.sleep(self._renew_seconds)
            try:
                async with asyncio.timeout(max(0.0, self._trusted_until - self._clock())):
                    await self._renew()
            except (ClusterUnreachable, ClusterError, TimeoutError) as error:
                logger.warning("could not renew the lease: %s", error)
            except NotLeader as error:
                self._trusted_until = float("-inf")
                self._give_up(str(error))
                return
            if not self.is_leader():
                self._give_up(f"the lease could not be renewed for {self._duration_seconds * 2 / 3:.0f} s")
                return

    async def release(self) -> None:
        """Hands the lease over, so that a standby need not wait for it to expire."""
        was_leader, self._trusted_until = self.is_leader(), float("-inf")
        if not was_leader or self._sighting is None:
            return
        record = self._sighting.record
        try:
            await self._store.write(record, holder=None, transitions=record.transitions)
            logger.info("released the lease")
        except (ClusterUnreachable, ClusterError) as error:
            logger.warning("could not release the lease; a standby takes over when it expires: %s", error)

    async def _try_to_take(self) -> bool:
        try:
            record = await self._store.read()
            if record is None:
                return await self._write(None, transitions=0)
            self._sighting = see(self._sighting, record, self._clock())
            match next_step(self._sighting, self.identity, self._clock()):
                case Take(reason):
                    logger.info("taking the lease: %s", reason)
                    return await self._write(record, transitions=record.transitions + 1)
                case Keep():
                    return await self._write(record, transitions=record.transitions)
                case StandBy(holder, _):
                    logger.debug("standing by for %s", holder)
                    return False
        except (Conflict, AlreadyExists):
            logger.info("another process was faster")
        except (ClusterUnreachable, ClusterError) as error:
            logger.warning("cannot read or write the lease: %s", error)
        return False

    async def _renew(self) -> None:
        """One renewal. After a conflict the lease is read: it may be our own write whose reply was lost."""
        assert self._sighting is not None, "hold() before campaign()"
        record = self._sighting.record
        try:
            await self._write(record, transitions=record.transitions)
            return
        except (Conflict, NotFound):
            found = await self._store.read()
        if found is None:
            raise NotLeader("the lease was deleted")
        if found.holder != self.identity:
            raise NotLeader(f"the lease is held by {found.holder or 'nobody'} now")
        await self._write(found, transitions=found.transitions)

    async def _write(self, record: LeaseRecord | None, *, transitions: int) -> bool:
        sent_at = self._clock()
        written = await self._store.write(record, holder=self.identity, transitions=transitions)
        self._sighting = Sighting(written, sent_at)
        self._trusted_until = trusted_until(sent_at, self._duration_seconds)
        return True


class ClusterLease:
    """A `LeaseStore` in the cluster."""

    def __init__(
        self, cluster: Cluster, namespace: str, name: str, *, duration_seconds: float, timeout_seconds: float
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._duration_seconds = duration_seconds
        self._timeout_seconds = timeout_seconds
        self._acquired_at: str | None = None

    async def read(self) -> LeaseRecord | None:
        """See `LeaseStore`."""
        try:
            return _record(
                await self._cluster.get(LEASE, self._namespace, self._name, timeout_seconds=self._timeout_seconds)
            )
        except NotFound:
            return None

    async def write(self, record: LeaseRecord | None, *, holder: str | None, transitions: int) -> LeaseRecord:
        """See `LeaseStore`."""
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        if record is None or record.holder != holder:
            self._acquired_at = now
        metadata = {"name": self._name, "namespace": self._namespace}
        if record is not None:
            metadata["resourceVersion"] = record.resource_version
        body: Json = {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.name,
            "metadata": metadata,
            "spec": {
                "holderIdentity": holder or "",
                "leaseDurationSeconds": max(1, round(self._duration_seconds)) if holder else 1,
                "acquireTime": self._acquired_at or now,
                "renewTime": now,
                "leaseTransitions": transitions,
            },
        }
        if record is None:
            return _record(
                await self._cluster.create(LEASE, self._namespace, body, timeout_seconds=self._timeout_seconds)
            )
        return _record(await self._cluster.replace(LEASE, self._namespace, body, timeout_seconds=self._timeout_seconds))


def _record(body: Json) -> LeaseRecord:
    metadata = cast("Mapping[str, str]", body["metadata"])
    spec = cast("Mapping[str, object]", body.get("spec") or {})
    return LeaseRecord(
        holder=str(spec.get("holderIdentity") or "") or None,
        duration_seconds=float(cast("int", spec.get("leaseDurationSeconds") or 1)),
        transitions=int(cast("int", spec.get("leaseTransitions") or 0)),
        resource_version=metadata["resourceVersion"],
    )
