"""Executors of changed fields and of rolling restarts, against an API server in memory."""

from dataclasses import dataclass, field
from typing import cast

import pytest

from fake_cluster import FakeCluster
from kb_facts import NOW, attempt, facts
from knowledgebeast_operator.actions.execute import Order, executor_of
from knowledgebeast_operator.actions.results import Done, InProgress, Result, Withheld
from knowledgebeast_operator.cluster.kinds import CONFIG_MAP, DEPLOYMENT, KNOWLEDGE_BEAST, POD, operand_kind
from knowledgebeast_operator.core.actions import Action, PutFields, RollingRestart, Target
from knowledgebeast_operator.core.ledger import Attempt
from knowledgebeast_operator.core.overlays import Overlays, put
from knowledgebeast_operator.custom_resource import KnowledgeBeast
from knowledgebeast_operator.leadership import ClusterLease, Leadership
from knowledgebeast_operator.runbooks.chroma_unreachable import RUNBOOK

ITSELF = Target(kind="KnowledgeBeast", name="demo", uid="kb")
SIZE = "cache.queryEntries"
SERVICES = operand_kind("Service")


@dataclass
class Scene:
    cluster: FakeCluster = field(default_factory=FakeCluster)

    def __post_init__(self) -> None:
        body: dict[str, object] = {"metadata": {"name": "demo", "namespace": "ns", "generation": 1}, "spec": {}}
        self.object = self.cluster.put(KNOWLEDGE_BEAST, "ns", body, uid="kb")
        store = ClusterLease(self.cluster, "ns", "lease", duration_seconds=15, timeout_seconds=3)
        self.leadership = Leadership(store, identity="me", duration_seconds=15, renew_seconds=0.01, clock=lambda: 0.0)

    async def execute(self, tried: Attempt) -> Result:
        await self.leadership.campaign()
        order = Order(
            attempt=tried,
            incident="demo-cache-hit-ratio-drop-0001",
            runbook=RUNBOOK,
            decided_for=KnowledgeBeast.parse(self.object),
            effective=None,
            facts=facts(),
        )
        return await executor_of(self.cluster, self.leadership).execute(order, NOW)

    def overlays(self) -> Overlays:
        body = self.cluster.objects[CONFIG_MAP.plural, "ns", "demo-overlays"]
        return Overlays.read(cast("dict[str, str]", body["data"]))

    def pod(self, name: str, uid: str) -> Target:
        self.cluster.put(POD, "ns", {"metadata": {"name": name, "namespace": "ns"}}, uid=uid)
        return Target(kind="Pod", name=name, uid=uid)

    def deployment(self, ready: int) -> None:
        body: dict[str, object] = {
            "metadata": {"name": "demo", "namespace": "ns"},
            "spec": {"replicas": 2},
            "status": {"readyReplicas": ready},
        }
        self.cluster.put(DEPLOYMENT, "ns", body, uid="d")

    def gone(self, name: str) -> None:
        self.cluster.objects.pop((POD.plural, "ns", name), None)


def setting(**changes: object) -> Attempt:
    action, inverse = put(ITSELF, Overlays(), {SIZE: 2500})
    return attempt(action=action, inverse=inverse).model_copy(update=changes)


async def test_fields_are_put_once_and_name_their_attempt() -> None:
    scene = Scene()
    assert isinstance(await scene.execute(setting()), Done)
    assert (scene.overlays().fields[SIZE].value, scene.overlays().fields[SIZE].attempt) == (2500, setting().id)
    assert isinstance(await scene.execute(setting()), Done)
    assert [verb for verb, kind, _ in scene.cluster.calls if kind == CONFIG_MAP.plural] == ["create"]


async def test_an_attempt_that_is_being_undone_carries_out_its_inverse() -> None:
    scene = Scene()
    await scene.execute(setting())
    assert isinstance(await scene.execute(setting(acted=NOW, undoing=NOW)), Done)
    assert scene.overlays() == Overlays()


async def test_an_undo_does_not_care_for_a_changed_spec_but_for_the_kill_switch() -> None:
    scene = Scene()
    await scene.execute(setting())
    changed: dict[str, object] = {"metadata": {"name": "demo", "namespace": "ns", "generation": 2}}
    scene.cluster.put(KNOWLEDGE_BEAST, "ns", changed | {"spec": {"remediation": {"mode": "Disabled"}}}, uid="kb")
    assert isinstance(await scene.execute(setting(acted=NOW, undoing=NOW)), Withheld)
    scene.cluster.put(KNOWLEDGE_BEAST, "ns", changed, uid="kb")
    assert isinstance(await scene.execute(setting(acted=NOW, undoing=NOW)), Done)


async def test_fields_of_our_own_service_are_put_back_and_another_service_is_left_alone() -> None:
    scene = Scene()
    body: dict[str, object] = {"metadata": {"name": "demo-chroma", "namespace": "ns"}, "spec": {"selector": {"a": "x"}}}
    scene.cluster.put(SERVICES, "ns", body, uid="s")

    def tried(uid: str) -> Attempt:
        target = Target(kind="Service", name="demo-chroma", uid=uid)
        action: Action = PutFields(target=target, patch='{"spec": {"selector": {"a": "b", "c": null}}}')
        return attempt(action=action)

    assert isinstance(await scene.execute(tried("other")), Withheld)
    assert isinstance(await scene.execute(tried("s")), Done)
    live = cast("dict[str, dict[str, object]]", scene.cluster.objects[SERVICES.plural, "ns", "demo-chroma"])
    assert live["spec"]["selector"] == {"a": "b"}


async def test_a_rolling_restart_takes_one_pod_after_the_other_and_waits_for_each() -> None:
    scene = Scene()
    pods = (scene.pod("a", "1"), scene.pod("b", "2"))
    tried = attempt(action=RollingRestart(target=Target(kind="Deployment", name="demo", uid="d"), pods=pods))
    scene.deployment(ready=2)
    assert isinstance(await scene.execute(tried), InProgress)
    scene.gone("a")
    scene.deployment(ready=1)
    assert isinstance(await scene.execute(tried), InProgress)
    assert deleted(scene) == ["a"]
    scene.deployment(ready=2)
    assert isinstance(await scene.execute(tried), InProgress)
    scene.gone("b")
    assert deleted(scene) == ["a", "b"]
    assert isinstance(await scene.execute(tried), Done)


async def test_a_rolling_restart_of_another_workload_is_withheld() -> None:
    scene = Scene()
    scene.deployment(ready=2)
    target = Target(kind="Deployment", name="demo", uid="other")
    result = await scene.execute(attempt(action=RollingRestart(target=target, pods=(scene.pod("a", "1"),))))
    assert isinstance(result, Withheld)
    assert deleted(scene) == []


@pytest.mark.parametrize("uid", ["another"])
async def test_a_pod_that_was_replaced_already_is_left_alone(uid: str) -> None:
    scene = Scene()
    scene.deployment(ready=2)
    scene.pod("a", "1")
    pods = (Target(kind="Pod", name="a", uid=uid),)
    result = await scene.execute(
        attempt(action=RollingRestart(target=Target(kind="Deployment", name="demo", uid="d"), pods=pods))
    )
    assert isinstance(result, Done)
    assert deleted(scene) == []


def deleted(scene: Scene) -> list[str]:
    return [name for verb, kind, name in scene.cluster.calls if (verb, kind) == ("delete", POD.plural)]
