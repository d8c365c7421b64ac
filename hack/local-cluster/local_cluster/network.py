"""The cluster's network namespace and the veth pair that is its only way to the host. No route leads out of it."""

import json
from pathlib import Path
from typing import NotRequired, TypedDict

from local_cluster import settings, shell
from local_cluster.errors import ClusterError

NAMESPACE_FILE = Path("/run/netns") / settings.NETWORK_NAMESPACE


class Route(TypedDict):
    """One entry of `ip -json route show`; a blackhole has no device."""

    dst: str
    dev: NotRequired[str]


def create() -> None:
    """Namespace, veth, addresses, routes. Raises ClusterError if the address ranges are in use on this machine."""
    taken = routes_in_the_way(json.loads(shell.run(["ip", "-json", "route", "show"])))
    if taken:
        raise ClusterError(f"this machine already routes {', '.join(taken)} somewhere else",
                           "Stop what uses these ranges, or set KUBECONFIG to a cluster of yours.")  # fmt: skip
    inside = ["ip", "-netns", settings.NETWORK_NAMESPACE]
    host, node = settings.HOST_LINK, settings.NODE_LINK
    length = settings.LINK_PREFIX_LENGTH
    for command in (
        ["ip", "netns", "add", settings.NETWORK_NAMESPACE],
        ["ip", "link", "add", host, "type", "veth", "peer", "name", node, "netns", settings.NETWORK_NAMESPACE],
        ["ip", "address", "add", f"{settings.HOST_ADDRESS}/{length}", "dev", host],
        ["ip", "link", "set", host, "up"],
        [*inside, "address", "add", f"{settings.NODE_ADDRESS}/{length}", "dev", node],
        [*inside, "link", "set", node, "up"],
        [*inside, "link", "set", "lo", "up"],
        # A service's address is translated on its way out, which needs a route to exist in the first place.
        [*inside, "route", "add", settings.SERVICE_RANGE, "dev", node, "src", settings.NODE_ADDRESS],
        ["ip", "route", "add", settings.SERVICE_RANGE, "via", settings.NODE_ADDRESS],
        ["ip", "route", "add", settings.POD_RANGE, "via", settings.NODE_ADDRESS],
    ):
        shell.run(command)


def routes_in_the_way(routes: list[Route]) -> list[str]:
    """Which of the cluster's ranges have a route of somebody else's."""
    ours = {settings.SERVICE_RANGE, settings.POD_RANGE, f"{settings.HOST_ADDRESS.rsplit('.', 1)[0]}.0/30"}
    return sorted(r["dst"] for r in routes if r["dst"] in ours and r.get("dev") != settings.HOST_LINK)


def namespace_exists() -> bool:
    return NAMESPACE_FILE.exists()


def link_exists() -> bool:
    return Path(f"/sys/class/net/{settings.HOST_LINK}").exists()


def delete() -> None:
    """Removes what `create` made, however much of it there is; the routes go with the link."""
    if link_exists():
        shell.run(["ip", "link", "delete", settings.HOST_LINK])
    if namespace_exists():
        shell.run(["ip", "netns", "delete", settings.NETWORK_NAMESPACE])
