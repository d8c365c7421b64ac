"""Who leads, as a pure state machine over what was read from the Lease and when (coordination.k8s.io/v1).

A standby never compares the wall clock in the Lease with its own: clocks differ. It notes on its own monotonic clock
when it first saw the present version of the Lease, and takes over when that has not changed for a whole duration.
The active one counts from before its last successful request was sent, and stops trusting itself after two thirds of
the duration: the remaining third is longer than any destructive request may take, so two never act at once.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

TRUST: Final = 2 / 3
"""The part of the lease's duration for which its holder may act without having renewed it."""


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """What the Lease says. `holder` is None after a clean shutdown."""

    holder: str | None
    duration_seconds: float
    transitions: int
    resource_version: str


@dataclass(frozen=True, slots=True)
class Sighting:
    """A version of the Lease, and the monotonic time at which it was first seen."""

    record: LeaseRecord
    since: float


@dataclass(frozen=True, slots=True)
class Take:
    """The lease is free: write it, if nobody else was faster."""

    reason: str


@dataclass(frozen=True, slots=True)
class Keep:
    """The lease is ours: renew it. After a lost reply this is also how our own write is recognised."""


@dataclass(frozen=True, slots=True)
class StandBy:
    """Somebody else leads; they are believed until this monotonic time."""

    holder: str
    until: float


Step: TypeAlias = Take | Keep | StandBy


def see(previous: Sighting | None, record: LeaseRecord, now: float) -> Sighting:
    """The sighting after reading `record`: an unchanged version keeps the time at which it was first seen."""
    if previous is not None and previous.record.resource_version == record.resource_version:
        return previous
    return Sighting(record, now)


def next_step(sighting: Sighting, me: str, now: float) -> Step:
    """What to do about the lease as it was last seen."""
    record = sighting.record
    if record.holder is None:
        return Take("its holder released it")
    if record.holder == me:
        return Keep()
    expires = sighting.since + record.duration_seconds
    if now >= expires:
        return Take(f"{record.holder} has not renewed it for {now - sighting.since:.1f} s")
    return StandBy(record.holder, expires)


def trusted_until(sent_at: float, duration_seconds: float) -> float:
    """Until when the holder may act, from the monotonic time at which its last successful request was sent."""
    return sent_at + duration_seconds * TRUST
