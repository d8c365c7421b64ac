"""The network as it is read live while Chroma does not answer."""

import copy
from typing import Any

import pytest

from fake_cluster import FakeCluster
from kb_facts import facts, incident
from knowledgebeast_operator.cluster.kinds import ENDPOINT_SLICE, POD, operand_kind
from knowledgebeast_operator.core.facts import NOT_ASKED, Fact, Known, Unknown
from knowledgebeast_operator.core.network import Network
from knowledgebeast_operator.errors import ClusterUnreachable, Rejected
from knowledgebeast_operator.signals.network import with_network
from operand_objects import knowledge_beast, operands

KB = knowledge_beast()
OWNER = {"kind": "KnowledgeBeast", "name": KB.name, "uid": KB.uid}


def cluster() -> FakeCluster:
    """Everything is as it was applied, and Chroma's pod is behind its Service."""
    found = FakeCluster()
    for (kind, _), manifest in operands().items():
        if kind in ("Service", "NetworkPolicy"):
            body: dict[str, Any] = copy.deepcopy(dict(manifest))
            body["metadata"]["ownerReferences"] = [OWNER]
            found.put(operand_kind(kind), KB.namespace, body)
    found.put(ENDPOINT_SLICE, KB.namespace, endpoints("demo-chroma-a", ready=True))
    return found


def endpoints(name: str, service: str = "demo-chroma", *, ready: bool | None) -> dict[str, Any]:
    conditions = {} if ready is None else {"ready": ready}
    metadata = {"name": name, "labels": {"kubernetes.io/service-name": service}}
    return {"metadata": metadata, "endpoints": [{"addresses": ["10.0.0.1"], "conditions": conditions}]}


async def observed(seen: FakeCluster) -> Fact[Network]:
    return (await with_network(seen, KB, facts(chroma_up=False), [incident()])).network


async def test_a_network_that_is_as_it_should_be() -> None:
    assert await observed(cluster()) == Known(Network((), ready_endpoints=1), facts().now)


@pytest.mark.parametrize("kind", ["Service", "NetworkPolicy"])
async def test_a_change_by_somebody_else(kind: str) -> None:
    seen = cluster()
    body: Any = seen.objects[operand_kind(kind).plural, KB.namespace, "demo-chroma"]
    body["metadata"]["labels"] = {}
    body["spec"] |= {"selector": {"app": "old"}, "ingress": []}
    network = await observed(seen)
    assert isinstance(network, Known)
    assert [(item.target.kind, item.target.name) for item in network.value.differences] == [(kind, "demo-chroma")]
    assert network.value.differences[0].target.uid == body["metadata"]["uid"]


async def test_policies_of_others_are_named_where_they_are_about_pods_of_the_object() -> None:
    seen = cluster()
    label = "knowledgebeast.io/name"
    for name, whose in (("demo-chroma-0", "demo"), ("other-chroma-0", "other")):
        seen.put(POD, KB.namespace, {"metadata": {"name": name, "labels": {label: whose, "app": whose}}})
    for name, whose in (("lockdown", "demo"), ("elsewhere", "other")):
        policy = {"metadata": {"name": name}, "spec": {"podSelector": {"matchLabels": {"app": whose}}}}
        seen.put(operand_kind("NetworkPolicy"), KB.namespace, policy)
    network = await observed(seen)
    assert isinstance(network, Known)
    assert network.value == Network((), ready_endpoints=1, others=("lockdown (made by somebody)",))


async def test_the_service_of_the_service_is_not_on_the_way_to_chroma() -> None:
    seen = cluster()
    body: Any = seen.objects["services", KB.namespace, "demo"]
    body["spec"]["selector"] = {"app": "old"}
    network = await observed(seen)
    assert isinstance(network, Known)
    assert network.value.differences == ()


async def test_what_is_missing_is_no_difference() -> None:
    network = await observed(FakeCluster())
    assert network == Known(Network((), ready_endpoints=0), facts().now)


async def test_only_ready_addresses_of_chroma_count() -> None:
    seen = cluster()
    seen.put(ENDPOINT_SLICE, KB.namespace, endpoints("demo-chroma-b", ready=False))
    seen.put(ENDPOINT_SLICE, KB.namespace, endpoints("demo-chroma-c", ready=None))
    seen.put(ENDPOINT_SLICE, KB.namespace, endpoints("demo-x", "demo", ready=True))
    network = await observed(seen)
    assert isinstance(network, Known)
    assert network.value.ready_endpoints == 2


@pytest.mark.parametrize("error", [Rejected(403, "Forbidden", "endpointslices"), ClusterUnreachable("timed out")])
async def test_what_cannot_be_read_is_unknown(error: Exception) -> None:
    seen = cluster()

    def refuse(verb: str, plural: str, name: str) -> None:
        if plural == ENDPOINT_SLICE.plural:
            raise error

    seen.before = refuse
    network = await observed(seen)
    assert isinstance(network, Unknown)
    assert str(error) in network.message


@pytest.mark.parametrize(
    "others",
    [[], [incident(runbook="DatabaseCorruption")], [incident(resolved_at=facts().now)]],
    ids=["no incident", "another incident", "an incident that is over"],
)
async def test_nobody_asks_while_chroma_has_no_incident(others: list[Any]) -> None:
    seen = cluster()
    seen.before = lambda verb, plural, name: pytest.fail(f"{verb} {plural}")
    assert (await with_network(seen, KB, facts(), others)).network == NOT_ASKED
