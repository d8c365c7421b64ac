"""A bound on how many callers may wait for one neighbour. A full bulkhead refuses at once: no queue forms behind it."""

from collections.abc import Generator
from contextlib import contextmanager


class BulkheadFullError(Exception):
    """All places are taken; the caller goes on without."""


class Bulkhead:
    """Places for concurrent calls; for one event loop (no lock is needed)."""

    def __init__(self, places: int) -> None:
        self._free = places

    @contextmanager
    def enter(self) -> Generator[None]:
        """Hold a place.

        Raises:
            BulkheadFullError: none is free.
        """
        if self._free == 0:
            raise BulkheadFullError
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1
