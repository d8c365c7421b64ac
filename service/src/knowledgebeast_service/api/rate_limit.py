"""Who asks, and how often they may. Pure: the time is an argument."""

import math
from collections import OrderedDict
from collections.abc import Sequence

CLIENTS = 10_000  # remembered at once; the one seen longest ago goes first
WINDOW_SECONDS = 60.0


class RateLimiter:
    """Generic cell rate algorithm (ITU-T I.371): a whole minute's allowance at once, then evenly spaced."""

    def __init__(self) -> None:
        self._due: OrderedDict[str, float] = OrderedDict()

    def check(self, client: str, per_minute: int, now: float) -> int:
        """0 = go on; otherwise the seconds (whole, at least 1) after which the next request will be let through."""
        if per_minute == 0:
            return 0
        spacing = WINDOW_SECONDS / per_minute
        due = max(self._due.get(client, now), now)
        ahead = due + spacing - now
        if ahead > WINDOW_SECONDS + spacing * 1e-6:
            return max(1, math.ceil(ahead - WINDOW_SECONDS))
        self._due[client] = due + spacing
        self._due.move_to_end(client)
        while len(self._due) > CLIENTS:
            self._due.popitem(last=False)
        return 0


def client_of(peer: str, forwarded_for: Sequence[str], trusted_proxies: int) -> str:
    """The client's address: the peer, or what the outermost trusted proxy saw.

    Only entries that trusted proxies appended are believed: the n-th from the right for n proxies, of which the peer
    is the nearest. Everything to its left is what the client claims.
    """
    hops = [hop.strip() for header in forwarded_for for hop in header.split(",") if hop.strip()]
    if trusted_proxies == 0 or len(hops) < trusted_proxies:
        return peer
    return hops[-trusted_proxies]
