"""The network between the service and Chroma, read live while an incident asks for it: four lists of a namespace."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final, cast

from knowledgebeast_operator.cluster.client import Cluster, Json
from knowledgebeast_operator.cluster.kinds import ENDPOINT_SLICE, POD, operand_kind
from knowledgebeast_operator.core.facts import Fact, Facts, Known, Unknown
from knowledgebeast_operator.core.ledger import IncidentRecord
from knowledgebeast_operator.core.network import Network, difference, policy_of_others
from knowledgebeast_operator.custom_resource import KnowledgeBeast, names
from knowledgebeast_operator.errors import ClusterError, ClusterUnreachable
from knowledgebeast_operator.operands import network as manifests

ASKED_BY: Final = "ChromaUnreachable"
SERVICE_NAME_LABEL: Final = "kubernetes.io/service-name"


async def with_network(
    cluster: Cluster, knowledgebeast: KnowledgeBeast, facts: Facts, incidents: Iterable[IncidentRecord]
) -> Facts:
    """The facts and, while Chroma does not answer, what is wrong in our own Services and policies, and who has others.

    Never raises: what cannot be read is unknown.
    """
    if not any(incident.is_open and incident.runbook == ASKED_BY for incident in incidents):
        return facts
    return replace(facts, network=await _observe(cluster, knowledgebeast, facts))


async def _observe(cluster: Cluster, knowledgebeast: KnowledgeBeast, facts: Facts) -> Fact[Network]:
    namespace, chroma = knowledgebeast.namespace, names.chroma_name(knowledgebeast.name)
    desired = [
        *(service for service in manifests.services(knowledgebeast) if _name(service) == chroma),
        *manifests.policies(knowledgebeast),
    ]
    try:
        # Without a selector: whoever changed an object may have taken its labels away.
        live = {
            (kind, _name(body)): body
            for kind in ("Service", "NetworkPolicy")
            for body in await cluster.list_objects(operand_kind(kind), namespace)
        }
        slices = await cluster.list_objects(ENDPOINT_SLICE, namespace, f"{SERVICE_NAME_LABEL}={chroma}")
        pods = await cluster.list_objects(POD, namespace, f"{names.NAME_LABEL}={knowledgebeast.name}")
    except (ClusterError, ClusterUnreachable) as error:
        return Unknown("network", "NetworkNotReadable", f"Services, policies and pods could not be read: {error}")
    # What is missing is made anew by the next apply.
    pairs = ((manifest, live.get((str(manifest["kind"]), _name(manifest)))) for manifest in desired)
    found = [difference(manifest, body, knowledgebeast.uid) for manifest, body in pairs if body is not None]
    endpoints = sum(_ready_addresses(item) for item in slices)
    policies = (body for (kind, _), body in sorted(live.items()) if kind == "NetworkPolicy")
    others = (policy_of_others(body, pods, knowledgebeast.uid) for body in policies)
    return Known(
        Network(
            tuple(item for item in found if item is not None),
            endpoints,
            tuple(item for item in others if item is not None),
        ),
        facts.now,
    )


def _ready_addresses(body: Json) -> int:
    """Addresses that get connections; a missing condition means ready."""
    endpoints = cast("Iterable[Mapping[str, Mapping[str, bool]]]", body.get("endpoints") or ())
    ready = [item for item in endpoints if (item.get("conditions") or {}).get("ready", True)]
    return len(ready)


def _name(body: Json) -> str:
    return str(cast("Mapping[str, object]", body["metadata"])["name"])
