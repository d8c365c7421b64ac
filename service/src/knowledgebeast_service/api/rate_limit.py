"""How often a client may ask. Pure: the time is an argument.

Generic cell rate algorithm (ITU-T I.371): a whole minute's allowance at once, then evenly spaced. All that is kept of
a client is its due time: when its allowance would be whole again.
"""

import math
from collections import OrderedDict
from collections.abc import Callable

CLIENTS = 10_000  # remembered at once; the one seen longest ago goes first
WINDOW_SECONDS = 60.0


def admit(due: float, per_minute: int, now: float) -> tuple[int, float]:
    """(0, next due time) = go on; (seconds to wait, whole and at least 1; unchanged due time) = refused.

    A due time that no history could have led to (a clock that began anew, a damaged table) counts as none.
    """
    spacing = WINDOW_SECONDS / per_minute
    due = max(due, now)
    if due - now > WINDOW_SECONDS * (1 + 1e-6) + 1:
        due = now
    ahead = due + spacing - now
    if ahead > WINDOW_SECONDS + spacing * 1e-6:
        return max(1, math.ceil(ahead - WINDOW_SECONDS)), due
    return 0, due + spacing


class RateLimiter:
    """Counts in this process alone."""

    def __init__(self) -> None:
        self._due: OrderedDict[str, float] = OrderedDict()

    def check(self, client: str, per_minute: int, now: float) -> int:
        """0 = go on; otherwise the seconds (whole, at least 1) after which the next request will be let through."""
        if per_minute == 0:
            return 0
        wait, due = admit(self._due.get(client, now), per_minute, now)
        if wait == 0:
            self._due[client] = due
            self._due.move_to_end(client)
            while len(self._due) > CLIENTS:
                self._due.popitem(last=False)
        return wait


class ForwardingWatch:
    """Notices a peer that forwards for many while it is not trusted to: its clients then share one allowance."""

    REQUESTS = 100
    PEERS = 16  # warned about at most, and counted at once

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._seen: dict[str, int] = {}

    def saw(self, peer: str) -> None:
        """A request of `peer` said that it is forwarded, and that was not believed."""
        if peer not in self._seen and len(self._seen) >= self.PEERS:
            return
        count = self._seen.get(peer, 0) + 1
        self._seen[peer] = count
        if count == self.REQUESTS:
            self._warn(
                f"{count} requests from {peer} carried X-Forwarded-For, which is not believed beyond TRUSTED_PROXIES, "
                f"so all clients behind it share one rate limit. If {peer} is your proxy, set TRUSTED_PROXIES to the "
                "number of proxies before the service, or give its clients API keys."
            )
