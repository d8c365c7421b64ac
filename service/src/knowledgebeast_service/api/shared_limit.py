"""The rate limit in use: over all replicas where the volume allows it, else in this process alone."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from knowledgebeast_service.api.rate_limit import RateLimiter
from knowledgebeast_service.api.rate_table import RateTable, TableError

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # between looks at whether the file is still the one that the others use
RETRY_SECONDS = 10.0


class SharedLimit:
    """Never fails: without the table it counts alone, says so once, and tries again."""

    def __init__(self, path: Path | None, on_change: Callable[[bool], None] = lambda _: None) -> None:
        """`on_change` is told whether the limit is shared, from the start and at every change."""
        self._path = path
        self._on_change = on_change
        self._alone = RateLimiter()
        self._table: RateTable | None = None
        self._look_at = 0.0
        self._complained_about: str | None = None

    def check(self, client: str, per_minute: int) -> int:
        """0 = go on; otherwise the seconds (whole, at least 1) to wait."""
        if per_minute == 0:
            return 0
        now = time.monotonic()  # counts from the start of the machine, so all its processes agree on it
        if now >= self._look_at:
            self._look(now)
        if self._table is not None:
            try:
                return self._table.check(client, per_minute, now)
            except TableError as error:
                log.debug("counted alone: %s", error)
        return self._alone.check(client, per_minute, now)

    def open(self) -> None:
        """Open the table now rather than at the first request."""
        self._look(time.monotonic())

    def close(self) -> None:
        if self._table is not None:
            self._table.close()
            self._table = None

    def _look(self, now: float) -> None:
        self._look_at = now + LOOK_SECONDS
        if self._table is not None and self._table.is_current():
            return
        self.close()
        if self._path is None:
            return
        try:
            self._table = RateTable(self._path)
        except TableError as error:
            self._look_at = now + RETRY_SECONDS
            if self._complained_about is None:
                log.warning("the rate limit counts in this process alone, not over all replicas: %s", error)
            self._complained_about = str(error)
        else:
            self._complained_about = None
        self._on_change(self._table is not None)
