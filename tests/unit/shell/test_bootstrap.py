"""A new object from a backup: nothing that uses the database exists before it is filled, and it is filled once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import pytest

from fake_cluster import FakeCluster
from kb_facts import NOW, facts
from knowledgebeast_operator.actions.apply import Applier
from knowledgebeast_operator.actions.operands import OperandKeeper, overview_of
from knowledgebeast_operator.cluster.kinds import DEPLOYMENT, JOB
from knowledgebeast_operator.cluster.objects import LiveOperand, LivePod
from knowledgebeast_operator.cluster.watched import Indexes, Watched
from knowledgebeast_operator.core.conditions import ready, stalled
from knowledgebeast_operator.core.ledger import Journal
from knowledgebeast_operator.core.overlays import Overlays
from knowledgebeast_operator.core.overview import Overview
from knowledgebeast_operator.core.policy import Policy
from maintenance_pods import ended, result, waiting
from operand_objects import REMOTE, knowledge_beast

NAME = "demo-bootstrap"
KEY = ("search", "demo")
SPEC: Mapping[str, object] = {"bootstrap": {"restoreFrom": {"claimName": "other-backups"}}}


@dataclass
class World:
    """A cluster, what the watches have shown of it, and the keeper of one object."""

    spec: Mapping[str, object] = field(default_factory=lambda: SPEC)
    cluster: FakeCluster = field(default_factory=FakeCluster)
    pods: list[LivePod] = field(default_factory=list[LivePod])
    operands: list[LiveOperand] = field(default_factory=list[LiveOperand])

    def __post_init__(self) -> None:
        self.keeper = OperandKeeper(self.cluster, self._indexes(), "i", Applier(self.cluster))

    async def look(self) -> Overview:
        """One look, and what the conditions are made from after it."""
        self.keeper.indexes = self._indexes()
        kb = knowledge_beast(self.spec)
        report = await self.keeper.keep(kb, Overlays())
        operands = overview_of(kb, Overlays(), report, self.operands, self.keeper.bootstrap)
        return Overview(facts(), Policy(), Journal(), operands, ())

    def _indexes(self) -> Indexes:
        return Indexes(
            objects={},
            pods={KEY: [Watched(JOB, pod.metadata, pod) for pod in self.pods]},
            operands={KEY: [Watched(DEPLOYMENT, one.metadata, one) for one in self.operands]},
            nodes={},
            incidents={},
            approvals={},
        )

    def has(self, kind: str, name: str) -> bool:
        return (kind, "search", name) in self.cluster.objects

    def end_job(self, condition: str, message: str | None) -> None:
        """The Job controller and the kubelet have done their work."""
        self.cluster.objects[JOB.plural, "search", NAME]["status"] = {
            "conditions": [
                {"type": condition, "status": "True", "reason": "BackoffLimitExceeded", "message": "too often"}
            ]
        }
        pod = ended("restore", message, code=0 if condition == "Complete" else 1, job=NAME)
        labels = {**pod.metadata.labels, "knowledgebeast.io/attempt": NAME}
        self.pods.append(pod.model_copy(update={"metadata": pod.metadata.model_copy(update={"labels": labels})}))


def shown(overview: Overview) -> tuple[str, str]:
    return ready(overview).status, ready(overview).reason


async def test_the_claims_come_first_then_the_job_and_the_service_only_when_it_is_done() -> None:
    world = World()
    assert shown(await world.look()) == ("False", "Restoring")
    assert world.has("persistentvolumeclaims", "demo-database")
    assert world.has("jobs", NAME)
    assert not world.has("deployments", "demo")
    assert not world.has("cronjobs", "demo-check"), "a check of an empty volume would report a lost database"
    world.end_job("Complete", result({"backup_id": "b"}))
    assert ready(await world.look()).reason != "Restoring"
    assert world.has("deployments", "demo")
    assert world.has("cronjobs", "demo-check")


async def test_an_object_without_a_source_starts_at_once_and_asks_nothing() -> None:
    world = World(spec={})
    await world.look()
    assert world.has("deployments", "demo")
    assert not world.has("jobs", NAME)


async def test_looking_again_makes_no_second_job() -> None:
    world = World()
    for _ in range(3):
        await world.look()
    assert [call for call in world.cluster.calls if call[:2] == ("create", "jobs")] == [("create", "jobs", NAME)]


async def test_once_the_service_exists_nothing_is_ever_restored_again() -> None:
    """Also when the Job is long gone: what lies on the volume now is worth more than the backup."""
    world = World()
    body = {"name": "demo", "uid": "d", "resourceVersion": "1", "creationTimestamp": NOW.isoformat()}
    world.operands = [LiveOperand.model_validate({"kind": "Deployment", "metadata": body})]
    await world.look()
    assert not world.has("jobs", NAME)
    assert world.has("deployments", "demo")


async def test_a_volume_that_holds_a_database_is_taken_as_it_is() -> None:
    world = World()
    await world.look()
    world.end_job("Failed", result({}, ok=False, refused="it passes every check", reason="NothingToRepair"))
    await world.look()
    assert world.has("deployments", "demo")


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (result({}, ok=False, refused="3 backups, none passes its checks", reason="NoVerifiedBackup"),
         "3 backups, none passes its checks"),
        (None, "BackoffLimitExceeded: too often"),
    ],
)  # fmt: skip
async def test_when_nothing_can_be_restored_a_person_is_told_why_and_how_to_go_on(
    message: str | None, said: str
) -> None:
    world = World()
    await world.look()
    world.end_job("Failed", message)
    overview = await world.look()
    assert shown(overview) == ("False", "RestoreBlocked")
    assert said in ready(overview).message
    assert "kubectl delete job demo-bootstrap -n search" in ready(overview).message
    assert (stalled(overview).status, stalled(overview).reason) == ("True", "RestoreBlocked")
    assert not world.has("deployments", "demo")
    del world.cluster.objects[JOB.plural, "search", NAME]
    world.pods.clear()
    assert shown(await world.look()) == ("False", "Restoring")
    assert world.has("jobs", NAME)


async def test_a_new_object_from_object_storage_says_from_where_and_that_it_waits_for_the_keys() -> None:
    world = World(spec={"bootstrap": {"restoreFrom": {"remote": REMOTE}}})
    await world.look()
    world.pods.append(waiting(NAME, "CreateContainerConfigError", 'secret "s3-keys" not found'))
    message = ready(await world.look()).message
    assert message == (
        "Job demo-bootstrap restores from s3://backups/search/demo/. Its pod has not started: "
        'CreateContainerConfigError: secret "s3-keys" not found'
    )


async def test_the_job_of_an_earlier_object_of_that_name_says_nothing_about_this_one() -> None:
    world = World()
    await world.look()
    world.end_job("Complete", result({}))
    metadata = world.cluster.objects[JOB.plural, "search", NAME]["metadata"]
    metadata["ownerReferences"] = [{"uid": "an-earlier-one"}]  # type: ignore[index]
    assert shown(await world.look()) == ("False", "Restoring")
    assert not world.has("deployments", "demo")


async def test_a_changed_object_reaches_its_operands_at_the_next_look() -> None:
    """What they are built to is kept between looks."""
    world = World(spec={"service": {"replicas": 1}})
    for replicas in (1, 1, 3, 2):
        world.spec = {"service": {"replicas": replicas}}
        await world.look()
        deployment = world.cluster.objects["deployments", "search", "demo"]
        assert cast("Mapping[str, object]", deployment["spec"])["replicas"] == replicas
