"""Whether a watch can be trusted, and what it shows."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from kb_facts import NOW
from knowledgebeast_operator.cluster.client import Cluster, Json
from knowledgebeast_operator.cluster.freshness import Suspicion, Versions, judge, staleness_seconds
from knowledgebeast_operator.cluster.kinds import NODE, POD, Kind
from knowledgebeast_operator.cluster.objects import LiveNode, LiveOperand, LivePod, Meta
from knowledgebeast_operator.cluster.watchdog import WatchDog
from knowledgebeast_operator.cluster.watched import Indexes, Key, Watched
from knowledgebeast_operator.core.approvals import Approval
from knowledgebeast_operator.core.facts import Node, OwnWork
from knowledgebeast_operator.errors import ClusterUnreachable
from knowledgebeast_operator.signals.cluster import observe_node, observe_pod
from knowledgebeast_operator.signals.own_work import own_work, scheduled_tasks

A: Versions = frozenset({("u", "1")})
B: Versions = frozenset({("u", "2")})
C: Versions = frozenset({("u", "3")})
CREATED = "2026-01-01T00:00:00Z"


class TestJudge:
    def test_agreement_is_fresh(self) -> None:
        assert judge(Suspicion(0.0, A), shown=B, live=B, now=30.0) is None

    def test_silence_while_there_is_something_to_say_ages(self) -> None:
        first = judge(None, shown=A, live=B, now=30.0)
        second = judge(first, shown=A, live=C, now=60.0)
        assert staleness_seconds(second, now=70.0) == 40.0

    def test_a_watch_that_moves_is_alive_though_it_lags(self) -> None:
        first = judge(None, shown=A, live=B, now=30.0)
        assert staleness_seconds(judge(first, shown=B, live=C, now=60.0), now=60.0) == 0.0

    def test_no_suspicion_is_no_age(self) -> None:
        assert staleness_seconds(None, now=60.0) == 0.0


@dataclass
class ListingCluster(Cluster):
    """Answers lists of versions."""

    live: dict[str, Versions] = field(default_factory=dict[str, Versions])
    is_down: bool = False

    async def list_versions(self, kind: Kind, namespace: str | None, selector: str | None) -> Versions:
        if self.is_down:
            raise ClusterUnreachable("down")
        return self.live.get(kind.plural, frozenset())


def meta(**changes: object) -> dict[str, object]:
    return {"name": "p", "namespace": "ns", "uid": "u", "resourceVersion": "1", "creationTimestamp": CREATED, **changes}


def live_pod(**parts: object) -> LivePod:
    return LivePod.model_validate({"metadata": meta(), **parts})


@dataclass
class Scene:
    now: float = 0.0
    cluster: ListingCluster = field(default_factory=ListingCluster)
    published: dict[str, float] = field(default_factory=dict[str, float])

    def __post_init__(self) -> None:
        pod = live_pod()
        self.pods: dict[Key, list[Watched[LivePod]]] = {("ns", "demo"): [Watched(POD, pod.metadata, pod)]}
        nothing: dict[Key, list[Watched[Json]]] = {}
        nodes: dict[Key, list[Watched[LiveNode]]] = {}
        operands: dict[Key, list[Watched[LiveOperand]]] = {}
        approvals: dict[Key, list[Watched[Approval]]] = {}
        indexes = Indexes(
            objects=nothing, pods=self.pods, operands=operands, nodes=nodes, incidents=nothing, approvals=approvals
        )
        self.dog = WatchDog(
            self.cluster,
            indexes,
            watches=[(POD, "ns", None), (NODE, None, None)],
            stale_seconds=120,
            publish=self.published.__setitem__,
            clock=lambda: self.now,
        )

    async def after(self, seconds: float) -> None:
        self.now += seconds
        await self.dog.compare()


async def test_a_dead_watch_fails_the_probe_and_stops_decisions_before() -> None:
    scene = Scene()
    scene.cluster.live = {"pods": A}
    await scene.after(30)
    assert scene.dog.is_fresh("ns")
    scene.cluster.live = {"pods": B}
    await scene.after(30)
    await scene.after(90)
    assert not scene.dog.is_fresh("ns")
    assert list(scene.dog.problems()) == []
    await scene.after(60)
    assert scene.published == {"pods": 150.0, "nodes": 0.0}
    assert [problem for problem in scene.dog.problems() if "pods in ns" in problem]


async def test_a_watch_that_catches_up_is_fresh_again() -> None:
    scene = Scene()
    scene.cluster.live = {"pods": B}
    await scene.after(30)
    await scene.after(200)
    assert list(scene.dog.problems())
    scene.cluster.live = {"pods": A}
    await scene.after(30)
    assert list(scene.dog.problems()) == []
    assert scene.published["pods"] == 0.0


async def test_an_api_server_that_is_away_is_no_dead_watch() -> None:
    scene = Scene()
    scene.cluster.is_down = True
    await scene.after(30)
    await scene.after(600)
    assert list(scene.dog.problems()) == []


async def test_a_stale_watch_of_one_namespace_does_not_stop_others() -> None:
    scene = Scene()
    scene.cluster.live = {"pods": B}
    await scene.after(30)
    await scene.after(90)
    assert not scene.dog.is_fresh("ns")
    assert scene.dog.is_fresh("other")


RUNNING = {
    "name": "chroma",
    "image": "i",
    "restartCount": 2,
    "state": {"running": {"startedAt": CREATED}},
    "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": CREATED}},
}


def test_a_pod_is_observed_as_the_kubelet_reports_it() -> None:
    status = {"conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [{"name": "x"}, RUNNING]}
    seen = observe_pod(live_pod(spec={"nodeName": "n"}, status=status), "chroma").pod
    assert (seen.is_ready, seen.node, seen.is_terminating, seen.unschedulable_message) == (True, "n", False, None)
    assert seen.container is not None
    assert (seen.container.restart_count, seen.container.last_exit_reason) == (2, "OOMKilled")


@pytest.mark.parametrize(
    ("after_start", "status", "expected"),
    [
        pytest.param(30, "False", True, id="ready_once_and_no_longer"),
        pytest.param(-10, "False", False, id="not_ready_since_before_its_start"),
        pytest.param(1, "False", False, id="noted_late_for_the_container_before_it"),
        pytest.param(30, "True", False, id="ready"),
    ],
)
def test_a_container_that_was_ready_is_told_from_one_that_starts(after_start: int, status: str, expected: bool) -> None:
    changed = (datetime.fromisoformat(CREATED) + timedelta(seconds=after_start)).isoformat()
    ready = {"type": "Ready", "status": status, "lastTransitionTime": changed}
    seen = observe_pod(live_pod(status={"conditions": [ready], "containerStatuses": [RUNNING]}), "chroma").pod
    assert seen.has_lost_readiness is expected


def test_a_pod_tells_what_it_was_made_from() -> None:
    of_service = {
        "metadata": meta(
            labels={"pod-template-hash": "6f9c"}, annotations={"knowledgebeast.io/pod-template-digest": "0123"}
        ),
        "spec": {"containers": [{"name": "sidecar", "image": "s"}, {"name": "service", "image": "registry/kb:2"}]},
        "status": {"containerStatuses": [{"name": "service", "image": "sha256:abc"}]},
    }
    seen = observe_pod(LivePod.model_validate(of_service), "service").pod
    assert (seen.revision, seen.image, seen.pod_template) == ("6f9c", "registry/kb:2", "0123")
    of_chroma = {"metadata": meta(labels={"controller-revision-hash": "demo-chroma-7b"})}
    assert observe_pod(LivePod.model_validate(of_chroma), "chroma").pod.revision == "demo-chroma-7b"


def test_a_deployment_tells_when_its_last_rollout_ended() -> None:
    conditions = [
        {"type": "Available", "status": "True", "lastUpdateTime": "2026-01-07T11:00:00Z"},
        {"type": "Progressing", "status": "True", "lastUpdateTime": "2026-01-07T11:30:00Z"},
    ]
    assert operand("Deployment", status={"conditions": conditions}).rolled_out_at == datetime(
        2026, 1, 7, 11, 30, tzinfo=UTC
    )
    assert operand("Deployment").rolled_out_at is None


def test_a_pod_without_any_status_is_neither_ready_nor_running() -> None:
    seen = observe_pod(live_pod(), "chroma").pod
    assert not seen.is_ready
    assert seen.container is None


def test_what_the_scheduler_says_is_kept() -> None:
    condition = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}
    assert observe_pod(live_pod(status={"conditions": [condition]}), "x").pod.unschedulable_message == "0/1 nodes"


def test_a_crash_loop_shows_why_it_waits_and_how_it_ended() -> None:
    state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    status = {"containerStatuses": [{**RUNNING, "state": state}]}
    container = observe_pod(live_pod(status=status), "chroma").pod.container
    assert container is not None
    assert (container.is_running, container.waiting_reason, container.last_exit_code) == (
        False,
        "CrashLoopBackOff",
        137,
    )


@pytest.mark.parametrize(("status", "expected"), [("True", True), ("False", False), ("Unknown", None)])
def test_a_silent_node_is_neither_ready_nor_not(status: str, expected: bool | None) -> None:
    live = LiveNode.model_validate(
        {"metadata": meta(name="n"), "status": {"conditions": [{"type": "Ready", "status": status}]}}
    )
    assert observe_node(live) == Node("n", expected, is_cordoned=False)


def operand(kind: str, **parts: object) -> LiveOperand:
    labels = {"app.kubernetes.io/component": "chroma"}
    return LiveOperand.model_validate({"kind": kind, "metadata": meta(generation=2, labels=labels), **parts})


def work(*operands: LiveOperand) -> list[str]:
    return [item.kind for item in own_work(pods=[], operands=operands, nodes={}, incidents=[], now=NOW)]


DONE = {"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1}


@pytest.mark.parametrize(
    ("operand", "expected"),
    [
        (operand("Deployment", status=DONE), []),
        (operand("Deployment", status={**DONE, "observedGeneration": 1}), ["Rollout"]),
        (operand("Deployment", status={**DONE, "updatedReplicas": 0}), ["Rollout"]),
        (operand("Deployment", status={**DONE, "replicas": 2}), ["Rollout"]),
        (operand("StatefulSet", status={**DONE, "currentRevision": "a", "updateRevision": "a"}), []),
        (
            operand(
                "StatefulSet", status={**DONE, "updatedReplicas": 0, "currentRevision": "a", "updateRevision": "b"}
            ),
            ["Rollout"],
        ),
        (operand("StatefulSet", status={**DONE, "readyReplicas": 0}), []),
        (operand("Service"), []),
        (
            operand("PersistentVolumeClaim", status={"conditions": [{"type": "Resizing", "status": "True"}]}),
            ["Resize"],
        ),
    ],
)
def test_own_work_is_what_has_not_reached_its_revision_or_size(operand: LiveOperand, expected: list[str]) -> None:
    assert work(operand) == expected


@pytest.mark.parametrize(
    ("labels", "phase", "kind"),
    [
        pytest.param({"task": "backup"}, "Running", "Backup", id="by_the_clock"),
        pytest.param({"task": "clean"}, "Pending", "Clean", id="about_to_begin"),
        pytest.param({"task": "backup"}, "Succeeded", None, id="over"),
        pytest.param({"task": "backup"}, "Failed", None, id="failed"),
        pytest.param({"task": "warm"}, "Running", None, id="nothing_to_disturb"),
        pytest.param({"task": "clean", "attempt": "demo-1"}, "Running", None, id="an_attempt_announces_itself"),
        pytest.param({}, "Running", None, id="no_task"),
    ],
)
def test_tasks_by_the_clock_are_known_while_they_run(labels: dict[str, str], phase: str, kind: str | None) -> None:
    named = {f"knowledgebeast.io/{label}": value for label, value in labels.items()}
    pod = LivePod.model_validate({"metadata": meta(labels=named), "status": {"phase": phase}})
    found = scheduled_tasks([pod])
    assert [work.kind for work in found] == ([kind] if kind else [])
    assert all(work.since == pod.metadata.creation_timestamp for work in found)


@pytest.mark.parametrize(
    ("gone_by", "since"),
    [
        pytest.param(NOW - timedelta(minutes=20), NOW - timedelta(minutes=20), id="stuck_since_its_deadline"),
        pytest.param(NOW + timedelta(seconds=10), NOW, id="still_in_its_grace_period"),
    ],
)
def test_a_pod_that_leaves_a_cordoned_node_is_drained(gone_by: datetime, since: datetime) -> None:
    deleted = meta(deletionTimestamp=gone_by.isoformat())
    pod = observe_pod(LivePod.model_validate({"metadata": deleted, "spec": {"nodeName": "n"}}), "chroma")
    cordoned = {"n": Node("n", is_ready=True, is_cordoned=True)}
    found = own_work(pods=[pod], operands=[], nodes=cordoned, incidents=[], now=NOW)
    assert found == (OwnWork("Drain", "chroma", "node n is being drained", since),)


def test_metadata_of_the_first_second_of_an_object_is_enough() -> None:
    assert Meta.model_validate(meta()).creation_timestamp < NOW + timedelta(days=1)
