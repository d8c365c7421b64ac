"""A restart of a pod: what is read again first, and what makes it not happen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

import pytest

from fake_cluster import FakeCluster
from kb_facts import NOW, attempt, facts
from knowledgebeast_operator.actions.execute import Order, executor_of
from knowledgebeast_operator.actions.results import Done, Result, Withheld
from knowledgebeast_operator.cluster.kinds import KNOWLEDGE_BEAST, POD
from knowledgebeast_operator.core.actions import RestartPod, Target
from knowledgebeast_operator.custom_resource import KnowledgeBeast
from knowledgebeast_operator.errors import ClusterUnreachable, NotLeader
from knowledgebeast_operator.leadership import ClusterLease, Leadership
from knowledgebeast_operator.runbooks.chroma_unreachable import RUNBOOK

POD_NAME = "demo-chroma-0"


def body() -> dict[str, object]:
    return {"metadata": {"name": "demo", "namespace": "ns", "generation": 1}, "spec": {}}


@dataclass
class Scene:
    """An object and its pod in a fake cluster, with a lease that the test holds or not."""

    cluster: FakeCluster = field(default_factory=FakeCluster)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.object = self.cluster.put(KNOWLEDGE_BEAST, "ns", body(), uid="kb")
        self.pod = self.cluster.put(POD, "ns", {"metadata": {"name": POD_NAME, "namespace": "ns"}}, uid="pod")
        store = ClusterLease(self.cluster, "ns", "lease", duration_seconds=15, timeout_seconds=3)
        self.leadership = Leadership(
            store, identity="me", duration_seconds=15, renew_seconds=0.01, clock=lambda: self.now
        )

    async def restart(self) -> Result:
        await self.leadership.campaign()
        return await self.execute()

    async def execute(self) -> Result:
        action = RestartPod(target=Target(kind="Pod", name=POD_NAME, uid="pod"))
        order = Order(
            attempt=attempt(action=action),
            incident="demo-chroma-unreachable-0001",
            runbook=RUNBOOK,
            decided_for=KnowledgeBeast.parse(self.object),
            effective=None,
            facts=facts(),
        )
        return await executor_of(self.cluster, self.leadership).execute(order, NOW)

    def change_object(self, changes: Mapping[str, object], uid: str = "kb") -> None:
        self.cluster.put(KNOWLEDGE_BEAST, "ns", {**body(), **changes}, uid=uid)

    def change_pod(self, uid: str = "pod", **metadata: object) -> None:
        self.cluster.put(POD, "ns", {"metadata": {"name": POD_NAME, "namespace": "ns", **metadata}}, uid=uid)

    def at_delete(self, act: Callable[[], None]) -> None:
        """Lets something happen between the last read and the delete, once."""
        done: list[bool] = []

        def before(verb: str, kind: str, name: str) -> None:
            if verb == "delete" and not done:
                done.append(True)
                act()

        self.cluster.before = before

    @property
    def deletions(self) -> list[tuple[str, str, str]]:
        return [call for call in self.cluster.calls if call[0] == "delete"]


async def test_the_pod_is_deleted() -> None:
    scene = Scene()
    assert isinstance(await scene.restart(), Done)
    assert scene.deletions == [("delete", "pods", POD_NAME)]


async def test_a_pod_that_is_gone_needs_no_delete() -> None:
    scene = Scene()
    scene.cluster.objects.pop(("pods", "ns", POD_NAME))
    assert isinstance(await scene.restart(), Done)
    assert scene.deletions == []


async def test_the_successor_of_the_pod_is_left_alone() -> None:
    scene = Scene()
    scene.change_pod(uid="successor")
    assert isinstance(await scene.restart(), Done)
    assert scene.deletions == []


async def test_a_successor_that_comes_between_read_and_delete_is_left_alone() -> None:
    scene = Scene()
    scene.at_delete(lambda: scene.change_pod(uid="successor"))
    assert isinstance(await scene.restart(), Done)
    assert scene.deletions == []
    assert cast("Mapping[str, str]", scene.cluster.objects["pods", "ns", POD_NAME]["metadata"])["uid"] == "successor"


async def test_a_pod_that_changes_between_read_and_delete_is_read_again() -> None:
    scene = Scene()
    scene.at_delete(scene.change_pod)
    assert isinstance(await scene.restart(), Done)
    assert scene.deletions == [("delete", "pods", POD_NAME)]


async def test_a_pod_that_is_being_deleted_is_not_deleted_again() -> None:
    scene = Scene()
    scene.change_pod(deletionTimestamp="2026-01-01T00:00:00Z")
    assert isinstance(await scene.restart(), Done)
    assert scene.deletions == []


async def test_without_a_certain_lease_nothing_is_sent() -> None:
    scene = Scene()
    await scene.leadership.campaign()
    scene.now += 10
    with pytest.raises(NotLeader):
        await scene.execute()
    assert scene.deletions == []


async def test_an_unknown_result_is_an_error_and_not_done() -> None:
    scene = Scene()

    def fail() -> None:
        raise ClusterUnreachable("the reply was lost")

    scene.at_delete(fail)
    with pytest.raises(ClusterUnreachable):
        await scene.restart()


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("ModeChanged", {"spec": {"remediation": {"mode": "Disabled"}}}),
        ("ModeChanged", {"spec": {"remediation": {"mode": "DryRun"}}}),
        ("ModeChanged", {"spec": {"remediation": {"runbooks": [{"name": RUNBOOK.name, "mode": "Disabled"}]}}}),
        ("Paused", {"spec": {"remediation": {"pauses": [{"reason": "migration"}]}}}),
        (
            "Paused",
            {
                "metadata": {
                    "name": "demo",
                    "namespace": "ns",
                    "generation": 1,
                    "annotations": {"knowledgebeast.io/paused": "hands off"},
                }
            },
        ),
        ("SpecChanged", {"metadata": {"name": "demo", "namespace": "ns", "generation": 2}}),
        ("InvalidSpec", {"spec": {"service": {"replicas": -1}}}),
        (
            "ObjectGone",
            {"metadata": {"name": "demo", "namespace": "ns", "generation": 1, "deletionTimestamp": "2026-01-01"}},
        ),
    ],
)
async def test_what_its_owner_changed_meanwhile_counts(reason: str, changes: dict[str, object]) -> None:
    scene = Scene()
    scene.change_object(changes)
    result = await scene.restart()
    assert isinstance(result, Withheld)
    assert result.reason == reason
    assert scene.deletions == []


async def test_an_object_made_again_under_the_same_name_is_not_meant() -> None:
    scene = Scene()
    scene.change_object({}, uid="another")
    result = await scene.restart()
    assert isinstance(result, Withheld)
    assert result.reason == "ObjectGone"


async def test_a_deleted_object_is_not_acted_for() -> None:
    scene = Scene()
    scene.cluster.objects.pop(("knowledgebeasts", "ns", "demo"))
    assert isinstance(await scene.restart(), Withheld)
    assert scene.deletions == []
