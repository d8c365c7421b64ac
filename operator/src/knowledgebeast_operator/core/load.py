"""How hard the service pods work against their limits, and what room their nodes have. Pure."""

from dataclasses import dataclass
from typing import Final

from knowledgebeast_operator.core.facts import Facts, Unknown
from knowledgebeast_operator.core.heard import each_pod, number, on_node
from knowledgebeast_operator.core.series import fresh_series
from knowledgebeast_operator.custom_resource import parse_bytes
from knowledgebeast_operator.custom_resource.units import parse_quantity

POD_CPU: Final = "process_cpu_seconds_total"
POD_MEMORY: Final = "kb_memory_anon_bytes"
NODE_CPU: Final = "container_cpu_usage_seconds_total"
NODE_MEMORY: Final = "container_memory_working_set_bytes"
MACHINE_MEMORY: Final = "machine_memory_bytes"

SERVICE_CPU: Final = "service_cpu"
"""Rows by pod: cores in use over the window, or over its last minutes if that is more.

A slope, because a rate takes the time before a pod began for idle.
"""

SERVICE_MEMORY: Final = "memory_anon"
"""Samples of anonymous memory, bytes."""

NODE_CPU_SHARE: Final = "node_cpu_share"
"""Rows by node: share of its cores in use over the window, 0 to 1."""

NODE_MEMORY_USED: Final = "node_memory_used"
NODE_MEMORY_TOTAL: Final = "node_memory"
"""Rows by node: bytes."""


@dataclass(frozen=True, slots=True)
class Load:
    """The service pods that can be heard, together."""

    pods: int
    cores: float  # in use
    cores_of_one: float  # limit of one pod
    memory: float  # anonymous, bytes
    memory_of_one: float  # limit of one pod, bytes
    largest: float  # anonymous memory of the largest pod, bytes

    @property
    def cpu_share(self) -> float:
        """Of the limits of all of them, 0 to 1."""
        return self.cpu_share_with(self.pods)

    @property
    def memory_share(self) -> float:
        """Of the limits of all of them, 0 to 1."""
        return self.memory_share_with(self.pods)

    def cpu_share_with(self, pods: int) -> float:
        """What it would be if this many pods shared the work of now."""
        return self.cores / (pods * self.cores_of_one)

    def memory_share_with(self, pods: int) -> float:
        """At most: part of a pod's memory is there without any work."""
        return self.memory / (pods * self.memory_of_one)


def service_load(facts: Facts) -> Load | Unknown:
    """The load of the pods that can be heard, against the limits in force."""
    cores = each_pod(facts, SERVICE_CPU, POD_CPU, lambda rows: number(rows, POD_CPU))
    if isinstance(cores, Unknown):
        return cores
    memory: list[float] = []
    for pod in cores.value:
        samples = fresh_series(facts.series(SERVICE_MEMORY), POD_MEMORY, pod, facts)
        if isinstance(samples, Unknown):
            return samples
        memory.append(samples.value[-1].value)
    limits = facts.effective_spec.service.resources.limits
    return Load(
        pods=len(memory),
        cores=sum(cores.value.values()),
        cores_of_one=float(parse_quantity(limits.cpu)),
        memory=sum(memory),
        memory_of_one=float(parse_bytes(limits.memory)),
        largest=max(memory),
    )


@dataclass(frozen=True, slots=True)
class NodeLoad:
    """One node, with everything that runs on it."""

    name: str
    cpu_share: float  # of its cores, 0 to 1
    memory_used: float  # bytes
    memory_total: float  # bytes

    def memory_share_with(self, more_bytes: float) -> float:
        """Of its memory, if so much more were used."""
        return (self.memory_used + more_bytes) / self.memory_total


def node_load(facts: Facts, node: str) -> NodeLoad | Unknown:
    """What cAdvisor says of a node."""
    cpu = on_node(facts.rows(NODE_CPU_SHARE), NODE_CPU, node)
    used = on_node(facts.rows(NODE_MEMORY_USED), NODE_MEMORY, node)
    total = on_node(facts.rows(NODE_MEMORY_TOTAL), MACHINE_MEMORY, node)
    if isinstance(cpu, Unknown):
        return cpu
    if isinstance(used, Unknown):
        return used
    if isinstance(total, Unknown):
        return total
    return NodeLoad(node, cpu, used, total)


def nodes_of_service(facts: Facts) -> tuple[str, ...] | Unknown:
    """The nodes on which service pods run; a new one goes to one of them, because the volume is mounted there."""
    if isinstance(facts.service_pods, Unknown):
        return facts.service_pods
    return tuple(sorted({pod.node for pod in facts.service_pods.value if pod.node is not None}))
