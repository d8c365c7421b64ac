"""The turns of one tick: each runbook knows what those before it have begun."""

from dataclasses import replace

from fake_cluster import FakeCluster
from kb_facts import NOW, chroma, facts, incident, pod
from knowledgebeast_operator.actions.execute import executor_of
from knowledgebeast_operator.cluster.kinds import INCIDENT
from knowledgebeast_operator.core.decision import Begin, Wait
from knowledgebeast_operator.core.ledger import Journal
from knowledgebeast_operator.core.policy import Policy
from knowledgebeast_operator.custom_resource import KnowledgeBeast
from knowledgebeast_operator.leadership import ClusterLease, Leadership
from knowledgebeast_operator.record.incident_body import new_body, with_status
from knowledgebeast_operator.record.incidents import IncidentStore
from knowledgebeast_operator.remediation import Remediator, Scene
from knowledgebeast_operator.runbooks.chroma_unreachable import RUNBOOK

OBJECT = KnowledgeBeast.parse({"metadata": {"name": "demo", "namespace": "ns", "uid": "kb"}})
ANOTHER = replace(RUNBOOK, name="AnotherOne", number=99, explained_by=())


async def test_two_runbooks_do_not_begin_on_one_target_in_the_same_tick() -> None:
    cluster = FakeCluster()
    store = ClusterLease(cluster, "ns", "lease", duration_seconds=15, timeout_seconds=3)
    leadership = Leadership(store, identity="me", duration_seconds=15, renew_seconds=0.01, clock=lambda: 0.0)
    incidents = IncidentStore(cluster)
    remediator = Remediator(incidents, executor_of(cluster, leadership), "me", lambda: NOW)
    records = [incident(), incident(name="demo-another-one-0001", runbook="AnotherOne")]
    created = [cluster.put(INCIDENT, "ns", new_body(OBJECT, record)) for record in records]
    bodies = [with_status(body, record) for body, record in zip(created, records, strict=True)]
    stored = incidents.read([cluster.put(INCIDENT, "ns", body) for body in bodies])
    seen = facts(chroma_up=False, chroma_pods=chroma(pod(is_ready=False)))
    scene = Scene(OBJECT, Policy.of(OBJECT), seen, Journal(), stored, (), None)

    steps = await remediator.take_turns(scene, (RUNBOOK, ANOTHER))

    decisions = [step.turn.decision for step in steps if step.turn is not None]
    assert [type(decision) for decision in decisions] == [Begin, Wait]
    assert isinstance(decisions[1], Wait)
    assert decisions[1].reason == "TargetBusy"
