"""Which address a request counts for."""

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

IPV6_PREFIX = 64  # what one customer of a provider has: single addresses in it are free to rotate


def client_of(peer: str, forwarded_for: Sequence[str], trusted_proxies: int) -> str:
    """The client's address: the peer, or what the outermost trusted proxy saw.

    Only entries that trusted proxies appended are believed: the n-th from the right for n proxies, of which the peer
    is the nearest. Everything to its left is what the client claims.
    """
    if trusted_proxies == 0 or not forwarded_for:
        return normal(peer)
    hops = [hop.strip() for header in forwarded_for for hop in header.split(",") if hop.strip()]
    return normal(peer if len(hops) < trusted_proxies else hops[-trusted_proxies])


@lru_cache(maxsize=4096)
def normal(address: str) -> str:
    """One spelling for one client: IPv4 mapped into IPv6 as IPv4, IPv6 by its network. What is no address stays."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), IPV6_PREFIX), strict=False))
