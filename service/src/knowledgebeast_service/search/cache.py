"""A cache with a bound on entries and on estimated bytes, and a memory of what it pushed out: S3-FIFO.

S3-FIFO (Yang et al. 2023, "FIFO queues are all you need for cache eviction") keeps newcomers in a small first queue, so
that what is asked for once leaves quickly and does not push out what is asked for again: on a Zipf trace 0.595 of the
requests hit, against 0.506 for least-recently-used (docs/adr/0009).
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
KeyIn = TypeVar("KeyIn", bound=Hashable, contravariant=True)

Observer = Callable[[str], None]  # called with hit, miss, eviction or ghost_hit

SMALL_SHARE = 10  # one in so many entries may be a newcomer before newcomers are pushed out
MOST_COUNTED = 3  # hits that an entry is remembered for; each one saves it from one eviction


@dataclass(frozen=True)
class CacheStats:
    """What /api/v1/stats shows of a cache."""

    size: int
    capacity: int
    bytes: int
    hits: int
    misses: int
    evictions: int
    ghost_hits: int

    @property
    def hit_ratio(self) -> float:
        looked_up = self.hits + self.misses
        return self.hits / looked_up if looked_up else 0.0


class Cache(Protocol[KeyIn, V]):
    """What the pipeline needs of a cache."""

    def get(self, key: KeyIn) -> V | None: ...
    def put(self, key: KeyIn, value: V) -> None: ...
    def resize(self, capacity: int, capacity_bytes: int) -> None: ...
    def stats(self) -> CacheStats: ...


@dataclass(slots=True)
class _Entry(Generic[V]):
    value: V
    size: int
    hits: int = 0


class S3FifoCache(Generic[K, V]):
    """For one event loop: no lock. `size_of` estimates the bytes of a value."""

    def __init__(
        self,
        capacity: int,
        capacity_bytes: int,
        size_of: Callable[[V], int],
        observe: Observer = lambda _event: None,
    ) -> None:
        self._entries: dict[K, _Entry[V]] = {}
        self._small: deque[K] = deque()
        self._main: deque[K] = deque()
        self._ghosts: OrderedDict[int, None] = OrderedDict()  # hashes of keys, oldest first
        self._capacity = capacity
        self._capacity_bytes = capacity_bytes
        self._size_of = size_of
        self._observe = observe
        self._bytes = 0
        self._counts = {"hit": 0, "miss": 0, "eviction": 0, "ghost_hit": 0}

    def get(self, key: K) -> V | None:
        """The value or None."""
        entry = self._entries.get(key)
        if entry is None:
            self._count("miss")
            if hash(key) in self._ghosts:
                self._count("ghost_hit")
            return None
        if entry.hits < MOST_COUNTED:
            entry.hits += 1
        self._count("hit")
        return entry.value

    def put(self, key: K, value: V) -> None:
        """Keep a value; one larger than the whole budget is not kept, and neither is the one it replaces."""
        size = self._size_of(value)
        if self._capacity == 0 or size > self._capacity_bytes:
            self._forget(key)
            return
        known = self._entries.get(key)
        if known is None:
            self._entries[key] = _Entry(value, size)
            # A key that comes back soon after it was pushed out is no passer-by.
            (self._main if self._ghosts.pop(hash(key), key) is None else self._small).append(key)
        else:
            self._bytes -= known.size
            known.value, known.size = value, size
        self._bytes += size
        self._shrink()

    def resize(self, capacity: int, capacity_bytes: int) -> None:
        """Change the bounds, at once."""
        self._capacity, self._capacity_bytes = capacity, capacity_bytes
        self._shrink()

    def stats(self) -> CacheStats:
        counts = self._counts
        return CacheStats(
            size=len(self._entries),
            capacity=self._capacity,
            bytes=self._bytes,
            hits=counts["hit"],
            misses=counts["miss"],
            evictions=counts["eviction"],
            ghost_hits=counts["ghost_hit"],
        )

    def _shrink(self) -> None:
        while self._entries and (len(self._entries) > self._capacity or self._bytes > self._capacity_bytes):
            if len(self._small) * SMALL_SHARE > len(self._entries) or not self._main:
                self._leave_small()
            else:
                self._leave_main()
        while len(self._ghosts) > self._capacity:
            self._ghosts.popitem(last=False)

    def _leave_small(self) -> None:
        """The oldest newcomer moves on when it was asked for again, and goes when not."""
        key = self._small.popleft()
        entry = self._entries[key]
        if entry.hits:
            entry.hits = 0
            self._main.append(key)
            return
        self._drop(key)
        self._ghosts[hash(key)] = None

    def _leave_main(self) -> None:
        key = self._main.popleft()
        entry = self._entries[key]
        if entry.hits:
            entry.hits -= 1
            self._main.append(key)
            return
        self._drop(key)
        self._ghosts[hash(key)] = None  # the paper's queue forgets these; here they count as ghost hits too

    def _drop(self, key: K) -> None:
        self._bytes -= self._entries.pop(key).size
        self._count("eviction")

    def _forget(self, key: K) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry.size
            (self._small if key in self._small else self._main).remove(key)

    def _count(self, event: str) -> None:
        self._counts[event] += 1
        self._observe(event)
