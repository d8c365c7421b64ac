"""A least-recently-used cache with a bound on entries and on estimated bytes, and a memory of what it pushed out."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
KeyIn = TypeVar("KeyIn", bound=Hashable, contravariant=True)

Observer = Callable[[str], None]  # called with hit, miss, eviction or ghost_hit


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


class LruCache(Generic[K, V]):
    """For one event loop: no lock. `size_of` estimates the bytes of a value."""

    def __init__(
        self,
        capacity: int,
        capacity_bytes: int,
        size_of: Callable[[V], int],
        observe: Observer = lambda _event: None,
    ) -> None:
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._ghosts: OrderedDict[int, None] = OrderedDict()
        self._capacity = capacity
        self._capacity_bytes = capacity_bytes
        self._size_of = size_of
        self._observe = observe
        self._bytes = 0
        self._counts = {"hit": 0, "miss": 0, "eviction": 0, "ghost_hit": 0}

    def get(self, key: K) -> V | None:
        """The value, which becomes the most recent, or None."""
        entry = self._entries.get(key)
        if entry is None:
            self._count("miss")
            if self._ghosts.pop(hash(key), key) is None:
                self._count("ghost_hit")
            return None
        self._entries.move_to_end(key)
        self._count("hit")
        return entry[0]

    def put(self, key: K, value: V) -> None:
        size = self._size_of(value)
        if self._capacity == 0 or size > self._capacity_bytes:
            return
        replaced = self._entries.pop(key, None)
        self._bytes += size - (replaced[1] if replaced else 0)
        self._entries[key] = (value, size)
        self._shrink()

    def resize(self, capacity: int, capacity_bytes: int) -> None:
        """Change the bounds; the oldest entries go first."""
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
            key, (_, size) = self._entries.popitem(last=False)
            self._bytes -= size
            self._count("eviction")
            self._ghosts[hash(key)] = None
        while len(self._ghosts) > self._capacity:
            self._ghosts.popitem(last=False)

    def _count(self, event: str) -> None:
        self._counts[event] += 1
        self._observe(event)
