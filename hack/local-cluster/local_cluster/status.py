"""What `cluster.py status` tells: daemons, node, addresses, files."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypedDict

from local_cluster import leftovers, processes, readiness, settings
from local_cluster.api import ApiServer
from local_cluster.console import table
from local_cluster.errors import ClusterError
from local_cluster.paths import State
from local_cluster.plan import DAEMONS


class DaemonStatus(TypedDict):
    pid: int
    starts: int
    last_exit: int | None


@dataclass(frozen=True)
class Daemon:
    """`pid` is the number on the host, 0 for one that does not run; memory in MiB."""

    name: str
    pid: int
    starts: int
    memory: float
    paused: bool


def daemons(state: State) -> list[Daemon]:
    """The supervised programs, with numbers of this host's process table; empty when the cluster is down."""
    first = processes.process_one(state)
    try:
        known: dict[str, DaemonStatus] = json.loads(state.daemon_status.read_text())
    except FileNotFoundError:
        return []
    if first is None:
        return []
    on_host = {processes.number_inside(pid): pid for pid in processes.children(first)}
    return [
        _daemon(name, on_host.get(known[name]["pid"], 0), known[name]["starts"]) for name in DAEMONS if name in known
    ]


def _daemon(name: str, pid: int, starts: int) -> Daemon:
    fields: dict[str, str] = {}
    if pid:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
    memory = int(fields.get("VmRSS", "0 kB").split()[0]) / 1024
    return Daemon(name, pid, starts, memory, fields.get("State", "").strip().startswith("T"))


def pid_of(state: State, name: str) -> int:
    """The daemon's process on the host. Raises ClusterError when there is none of that name."""
    if name not in DAEMONS:
        raise ClusterError(f"there is no daemon {name}", f"It is one of: {', '.join(DAEMONS)}")
    found = next((daemon.pid for daemon in daemons(state) if daemon.name == name), 0)
    if not found:
        raise ClusterError(f"{name} is not running", "See `cluster.py status`.")
    return found


def is_up(state: State) -> bool:
    return processes.process_one(state) is not None and not readiness.api_server(ApiServer(state))


def facts(state: State) -> dict[str, object]:
    """The same for programs; `images` names the cluster's own images, `toolbox` (busybox) being there for tests."""
    return {
        "up": is_up(state),
        "kubeconfig": str(state.kubeconfig),
        "audit_log": str(state.audit_log),
        "prometheus": settings.PROMETHEUS_URL,
        "images": json.loads(state.images.read_text()) if state.images.exists() else {},
        "daemons": [asdict(daemon) for daemon in daemons(state)],
    }


def text(state: State) -> str:
    """The whole page."""
    found = daemons(state)
    if processes.process_one(state) is None:
        rest = leftovers.find(state)
        return f"The cluster is down. Left on this machine: {rest}." + (" `down` removes it." if rest else "")
    rows = [(d.name, str(d.pid) if d.pid else "-", str(d.starts), f"{d.memory:.0f} MiB", "paused" if d.paused else "")
            for d in found]  # fmt: skip
    total = sum(d.memory for d in found)
    node = readiness.node(ApiServer(state), 0.0) if is_up(state) else "the API server does not answer"
    files = (
        ("node", f"{settings.NODE_NAME}: {node or 'Ready'}"),
        ("API server", settings.API_URL),
        ("Prometheus", settings.PROMETHEUS_URL),
        ("kubeconfig", str(state.kubeconfig)),
        ("kubectl", str(state.bin / "kubectl")),
        ("audit log", str(state.audit_log)),
        ("logs", str(state.logs)),
        ("memory", f"{total:.0f} MiB in these daemons"),
    )
    return table(("daemon", "process", "starts", "memory", ""), rows) + "\n\n" + table(("", ""), files).strip()
