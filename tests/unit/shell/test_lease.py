"""Who leads, with clocks and a store that the tests control."""

import asyncio
from dataclasses import dataclass, replace

import pytest

from knowledgebeast_operator.errors import AlreadyExists, ClusterUnreachable, Conflict, NotLeader
from knowledgebeast_operator.leadership import Leadership
from knowledgebeast_operator.lease import Keep, LeaseRecord, Sighting, StandBy, Take, next_step, see, trusted_until

DURATION = 15.0
RENEW = 0.001  # the loop's pauses are real time; everything that is judged runs on the fake clock


def record(holder: str | None = "other", version: str = "1") -> LeaseRecord:
    return LeaseRecord(holder, DURATION, transitions=3, resource_version=version)


class TestNextStep:
    def test_a_fresh_lease_of_another_is_believed(self) -> None:
        assert next_step(Sighting(record(), since=100.0), "me", now=110.0) == StandBy("other", until=115.0)

    def test_an_unchanged_lease_is_taken_after_its_duration(self) -> None:
        assert isinstance(next_step(Sighting(record(), since=100.0), "me", now=115.0), Take)

    def test_a_released_lease_is_taken_at_once(self) -> None:
        assert isinstance(next_step(Sighting(record(holder=None), since=100.0), "me", now=100.0), Take)

    def test_our_own_lease_is_kept(self) -> None:
        assert next_step(Sighting(record("me"), since=100.0), "me", now=900.0) == Keep()

    def test_every_renewal_starts_the_wait_again(self) -> None:
        first = see(None, record(version="1"), now=100.0)
        second = see(first, record(version="2"), now=114.0)
        assert isinstance(next_step(second, "me", now=116.0), StandBy)

    def test_seeing_the_same_version_again_does_not_start_the_wait_again(self) -> None:
        first = see(None, record(), now=100.0)
        assert see(first, record(), now=114.0) is first

    def test_trust_and_the_longest_destructive_request_end_before_the_lease(self) -> None:
        assert trusted_until(0.0, DURATION) + 3.0 < DURATION


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class Store:
    """The lease of a fake cluster; `is_down` loses every request, `loses_replies` only what comes back."""

    def __init__(self) -> None:
        self.record: LeaseRecord | None = None
        self.is_down = False
        self.loses_replies = False
        self.writes = 0

    async def read(self) -> LeaseRecord | None:
        if self.is_down:
            raise ClusterUnreachable("down")
        return self.record

    async def write(self, record: LeaseRecord | None, *, holder: str | None, transitions: int) -> LeaseRecord:
        if self.is_down:
            raise ClusterUnreachable("down")
        if record is None and self.record is not None:
            raise AlreadyExists(409, "AlreadyExists", "lease")
        if record is not None and (self.record is None or record.resource_version != self.record.resource_version):
            raise Conflict(409, "Conflict", "lease")
        self.writes += 1
        self.record = LeaseRecord(holder, DURATION, transitions, resource_version=f"write-{self.writes}")
        if self.loses_replies:
            raise ClusterUnreachable("the reply was lost")
        return self.record


@dataclass
class Process:
    leadership: Leadership
    given_up: list[str]


def process(store: Store, clock: Clock, identity: str) -> Process:
    given_up: list[str] = []
    leadership = Leadership(
        store, identity=identity, duration_seconds=DURATION, renew_seconds=RENEW, clock=clock, give_up=given_up.append
    )
    return Process(leadership, given_up)


async def test_one_of_two_leads_and_the_other_follows_when_it_is_silent() -> None:
    store, clock = Store(), Clock()
    first, second = process(store, clock, "first"), process(store, clock, "second")
    await first.leadership.campaign()
    waiting = asyncio.create_task(second.leadership.campaign())
    await asyncio.sleep(0.02)
    assert first.leadership.is_leader()
    assert not second.leadership.is_leader()
    clock.now += DURATION - 1
    await asyncio.sleep(0.02)
    assert not waiting.done()
    assert not first.leadership.is_leader(), "it stops trusting itself before another may lead"
    clock.now += 1
    await asyncio.wait_for(waiting, 1)
    assert second.leadership.is_leader()


async def test_a_released_lease_changes_hands_at_once() -> None:
    store, clock = Store(), Clock()
    first, second = process(store, clock, "first"), process(store, clock, "second")
    await first.leadership.campaign()
    waiting = asyncio.create_task(second.leadership.campaign())
    await asyncio.sleep(0.02)
    await first.leadership.release()
    await asyncio.wait_for(waiting, 1)
    assert not first.leadership.is_leader()
    assert second.leadership.is_leader()


async def test_renewing_keeps_the_trust() -> None:
    store, clock = Store(), Clock()
    one = process(store, clock, "one")
    await one.leadership.campaign()
    holding = asyncio.create_task(one.leadership.hold())
    for _ in range(5):
        clock.now += 5
        await asyncio.sleep(0.02)
    assert one.leadership.is_leader()
    assert one.given_up == []
    holding.cancel()


async def test_who_cannot_renew_gives_up_before_another_may_lead() -> None:
    store, clock = Store(), Clock()
    one = process(store, clock, "one")
    await one.leadership.campaign()
    store.is_down = True
    holding = asyncio.create_task(one.leadership.hold())
    clock.now += 9
    await asyncio.sleep(0.02)
    assert one.given_up == []
    clock.now += 1
    await asyncio.wait_for(holding, 1)
    assert len(one.given_up) == 1
    with pytest.raises(NotLeader):
        one.leadership.require()


async def test_a_lease_taken_by_another_ends_the_process_at_once() -> None:
    store, clock = Store(), Clock()
    one = process(store, clock, "one")
    await one.leadership.campaign()
    store.record = record("other", version="stolen")
    await asyncio.wait_for(one.leadership.hold(), 1)
    assert one.given_up == ["the lease is held by other now"]
    assert not one.leadership.is_leader()


async def test_a_lost_reply_is_recognised_as_our_own_write() -> None:
    store, clock = Store(), Clock()
    one = process(store, clock, "one")
    await one.leadership.campaign()
    store.loses_replies = True
    holding = asyncio.create_task(one.leadership.hold())
    await asyncio.sleep(0.02)
    store.loses_replies = False
    clock.now += 5
    await asyncio.sleep(0.02)
    assert one.given_up == []
    clock.now += 5
    await asyncio.sleep(0.02)
    assert one.leadership.is_leader()
    holding.cancel()


async def test_of_two_that_take_an_expired_lease_one_leads() -> None:
    store, clock = Store(), Clock()
    store.record = record("dead")
    both = [process(store, clock, name) for name in ("one", "two")]
    campaigns = [asyncio.create_task(item.leadership.campaign()) for item in both]
    await asyncio.sleep(0.01)
    clock.now += DURATION
    await asyncio.wait(campaigns, timeout=1, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.sleep(0.02)
    assert [item.leadership.is_leader() for item in both].count(True) == 1
    assert store.record is not None
    assert store.record.transitions == 4
    for campaign in campaigns:
        campaign.cancel()


async def test_release_by_who_does_not_lead_writes_nothing() -> None:
    store, clock = Store(), Clock()
    store.record = replace(record("other"))
    await process(store, clock, "one").leadership.release()
    assert store.writes == 0
