"""A task step by step: what each look at the cluster leads to, whatever the operator before it had done."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from corruption import CLAIM, NAME
from fake_cluster import FakeCluster
from kb_facts import NOW, facts, nodes, seconds
from knowledgebeast_operator.actions.execute import Order, executor_of
from knowledgebeast_operator.actions.jobs import START_WITHIN, Jobs
from knowledgebeast_operator.actions.overlays import OverlayStore
from knowledgebeast_operator.actions.results import Done, InProgress, Result, Withheld
from knowledgebeast_operator.actions.tasks import WRITERS_GONE_WITHIN
from knowledgebeast_operator.cluster.kinds import (
    CLAIM as CLAIM_KIND,
)
from knowledgebeast_operator.cluster.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    INCIDENT_APPROVAL,
    JOB,
    KNOWLEDGE_BEAST,
    POD,
    Kind,
)
from knowledgebeast_operator.cluster.objects import LiveOperand
from knowledgebeast_operator.core.actions import RunFencedTask, RunTask
from knowledgebeast_operator.core.approvals import ask
from knowledgebeast_operator.core.facts import Facts
from knowledgebeast_operator.core.ledger import Attempt, IncidentRecord, Severity
from knowledgebeast_operator.core.overlays import Fence, Overlays
from knowledgebeast_operator.custom_resource import KnowledgeBeast, names
from knowledgebeast_operator.errors import ClusterUnreachable
from knowledgebeast_operator.leadership import ClusterLease, Leadership
from knowledgebeast_operator.operands import effective
from knowledgebeast_operator.runbooks.database_corruption import RUNBOOK

ATTEMPT = f"{NAME}-1"
FENCED = RunFencedTask(target=CLAIM, task="restore")
BESIDE = RunTask(target=CLAIM, task="check")
RESULT: dict[str, object] = {
    "task": "restore",
    "attempt": ATTEMPT,
    "ok": True,
    "measured": {
        "backup_id": "20260107T110000Z-40",
        "seconds": 3.5,
        "documents": 90,
        "skipped": [{"id": "20260107T113000Z-41", "reason": "ChecksumDiffers"}],
        "loss": {
            "documents_lower": 1,
            "documents_upper": 3,
            "from": "2026-01-07T11:00:00Z",
            "until": "2026-01-07T11:59:00Z",
            "ingest_again": [{"project": "p", "id": "d"}],
            "ingest_again_total": 1,
            "rpo_seconds": 60.0,
            "rto_seconds": 12.5,
        },
    },
}


@dataclass
class Scene:
    """An object with its claim, its Deployment and its pods, and one attempt at a task on it."""

    action: RunTask | RunFencedTask = FENCED
    cluster: FakeCluster = field(default_factory=FakeCluster)
    now: datetime = NOW
    begun: datetime | None = None
    approval_name: str | None = None
    at: Facts = field(default_factory=facts)

    def __post_init__(self) -> None:
        self.put(KNOWLEDGE_BEAST, {"metadata": {"name": "demo", "namespace": "ns", "generation": 1}, "spec": {}}, "kb")
        self.put(CLAIM_KIND, {"metadata": {"name": CLAIM.name, "namespace": "ns"}}, CLAIM.uid)
        self.scale(0)
        store = ClusterLease(self.cluster, "ns", "lease", duration_seconds=15, timeout_seconds=3)
        self.leadership = Leadership(store, identity="me", duration_seconds=15, renew_seconds=0.01, clock=lambda: 0.0)
        self.overlays = OverlayStore(self.cluster, Jobs(self.cluster, self.leadership), self.leadership)

    def put(self, kind: Kind, body: Mapping[str, object], uid: str = "") -> dict[str, object]:
        return self.cluster.put(kind, "ns", body, uid)

    def scale(self, replicas: int, *, running: int | None = None, observed: int = 1) -> None:
        status = {"replicas": replicas if running is None else running, "observedGeneration": observed}
        self.put(DEPLOYMENT, {
            "metadata": {"name": "demo", "namespace": "ns", "generation": 1},
            "spec": {"replicas": replicas}, "status": status,
        })  # fmt: skip

    def pod(self, name: str, *, phase: str = "Running", claim: str = CLAIM.name, **labels: str) -> None:
        volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]
        self.put(POD, {
            "metadata": {"name": name, "namespace": "ns", "labels": labels},
            "spec": {"nodeName": "node-1", "volumes": volumes}, "status": {"phase": phase},
        })  # fmt: skip

    def pod_of_job(self, state: Mapping[str, object], phase: str) -> None:
        self.put(POD, {
            "metadata": {"name": "pod-of-job", "namespace": "ns", "labels": {names.ATTEMPT_LABEL: ATTEMPT}},
            "spec": {"nodeName": "node-1"},
            "status": {"phase": phase, "containerStatuses": [{"name": "maintenance", "image": "i", "state": state}]},
        })  # fmt: skip

    def end_job(self, kind: str, reason: str = "") -> None:
        job = self.cluster.objects["jobs", "ns", ATTEMPT]
        self.put(JOB, {**job, "status": {"conditions": [{"type": kind, "status": "True", "reason": reason}]}})

    def says(self, message: object, *, exit_code: int = 0, reason: str = "Completed") -> None:
        text = message if isinstance(message, str) else json.dumps(message)
        ended = {"exitCode": exit_code, "reason": reason, "message": text}
        self.pod_of_job({"terminated": ended}, "Succeeded" if exit_code == 0 else "Failed")
        self.end_job("Complete" if exit_code == 0 else "Failed", "" if exit_code == 0 else "PodFailurePolicy")

    @property
    def attempt(self) -> Attempt:
        asked = ask("why", ATTEMPT, self.action, ()) if self.approval_name else None
        return Attempt(
            id=ATTEMPT,
            option="RestoreDatabase",
            action=self.action,
            claimed_by="me",
            started=NOW - seconds(5),
            begun=self.begun,
            approval=asked.model_copy(update={"granted_by": self.approval_name}) if asked else None,
        )

    async def step(self) -> Result:
        await self.leadership.campaign()
        kb = KnowledgeBeast.parse(self.cluster.objects["knowledgebeasts", "ns", "demo"])
        order = Order(self.attempt, NAME, RUNBOOK, kb, effective(kb, default_image="image"), self.at)
        result = await executor_of(self.cluster, self.leadership, self.overlays).execute(order, self.now)
        if isinstance(result, InProgress):
            self.begun = self.begun or self.now
        return result

    async def steps(self, count: int) -> Result:
        results = [await self.step() for _ in range(count)]
        return results[-1]

    @property
    def jobs(self) -> list[str]:
        return [name for verb, kind, name in self.cluster.calls if (verb, kind) == ("create", "jobs")]

    @property
    def writes(self) -> list[tuple[str, str, str]]:
        return [call for call in self.cluster.calls if call[1] != "leases"]

    @property
    def fence(self) -> Fence | None:
        body = self.cluster.objects.get(("configmaps", "ns", "demo-overlays"), {"data": {}})
        data = body["data"]
        assert isinstance(data, Mapping)
        return Overlays.read(dict(data)).fence  # type: ignore[arg-type]

    async def settle(self, *attempts: Attempt, lagging: tuple[Attempt, ...] | None = None) -> Overlays:
        """With what the watch shows of the incident's attempts, and with what is live where that differs."""
        await self.leadership.campaign()
        kb = KnowledgeBeast.parse(self.cluster.objects["knowledgebeasts", "ns", "demo"])
        shown = self.cluster.objects.get(("configmaps", "ns", "demo-overlays"))
        live = [LiveOperand.model_validate({**shown, "kind": CONFIG_MAP.name})] if shown else []

        async def read_again() -> list[IncidentRecord]:
            return [record(*(attempts if lagging is None else lagging))]

        return await self.overlays.settle(kb, self.overlays.read(kb, live), [record(*attempts)], read_again)


def record(*attempts: Attempt) -> IncidentRecord:
    return IncidentRecord(
        name=NAME, runbook="DatabaseCorruption", number=1, severity=Severity.P0, opened_at=NOW, detected_at=NOW,
        attempts=attempts,
    )  # fmt: skip


def reason_of(result: Result) -> str:
    match result:
        case Done(report=report):
            return report.reason if report is not None else ""
        case InProgress(stage=stage):
            return stage
        case Withheld(reason=reason):
            return reason


async def test_a_task_beside_the_service_begins_at_once() -> None:
    scene = Scene(BESIDE)
    scene.pod("demo-a")
    assert reason_of(await scene.step()) == "TaskRunning"
    assert scene.jobs == [ATTEMPT]
    assert scene.fence is None


async def test_the_fence_comes_first_and_nothing_else_while_a_pod_has_the_volume() -> None:
    scene = Scene()
    scene.pod("demo-a")
    result = await scene.steps(2)
    assert isinstance(result, InProgress)
    assert "demo-a" in result.message
    assert scene.fence is not None
    assert scene.fence.attempt == ATTEMPT
    assert scene.jobs == []


async def test_a_pod_that_is_not_ours_has_the_volume_too() -> None:
    scene = Scene()
    scene.pod("somebody-debugs")
    assert reason_of(await scene.steps(2)) == "Fencing"
    assert scene.jobs == []


ELSEWHERE = {"done": {"phase": "Succeeded"}, "failed": {"phase": "Failed"}, "elsewhere": {"claim": "demo-chroma"}}


@pytest.mark.parametrize("other", ELSEWHERE.values(), ids=ELSEWHERE.keys())
async def test_a_pod_that_has_not_the_volume_is_not_waited_for(other: dict[str, str]) -> None:
    scene = Scene()
    scene.pod("other", **other)
    assert reason_of(await scene.step()) == "TaskRunning"


@pytest.mark.parametrize(
    "deployment", [{"replicas": 2}, {"replicas": 0, "running": 1}, {"replicas": 0, "observed": 0}],
    ids=["still_asked_for", "still_there", "not_seen_yet"],
)  # fmt: skip
async def test_while_a_controller_may_make_a_pod_the_task_does_not_begin(deployment: dict[str, int]) -> None:
    scene = Scene()
    scene.scale(**deployment)
    assert reason_of(await scene.steps(2)) == "Fencing"
    assert scene.jobs == []


async def test_a_pod_that_does_not_end_is_never_forced_and_ends_the_attempt() -> None:
    scene = Scene()
    scene.pod("stuck")
    await scene.step()
    scene.now += WRITERS_GONE_WITHIN
    result = await scene.step()
    assert isinstance(result, Done)
    assert result.report is not None
    assert result.report.refused
    assert result.report.reason == "WritersPresent"
    assert "stuck" in result.message
    assert not [call for call in scene.cluster.calls if call[0] == "delete"]


@pytest.mark.parametrize("state", [False, None], ids=["not_ready", "silent"])
async def test_a_pod_on_a_lost_node_ends_the_attempt_at_once(state: bool | None) -> None:
    scene = Scene(at=facts(nodes=nodes(is_ready=state)))
    scene.pod("unreachable")
    assert reason_of(await scene.step()) == "NodeLost"
    assert scene.jobs == []


async def test_the_job_is_named_after_the_attempt_and_its_run_never_comes_again() -> None:
    scene = Scene()
    await scene.step()
    body = json.dumps(scene.cluster.objects["jobs", "ns", ATTEMPT])
    assert f'"--attempt-id", "{ATTEMPT}.{int((NOW - seconds(5)).timestamp())}"' in body


def nothing(verb: str, kind: str, name: str) -> None:
    """No fault any more."""


async def test_a_job_whose_reply_was_lost_is_not_made_again() -> None:
    scene = Scene()

    def lose_the_reply(verb: str, kind: str, name: str) -> None:
        if (verb, kind) == ("create", "jobs"):
            scene.cluster.before = nothing
            scene.put(JOB, {"metadata": {"name": ATTEMPT, "namespace": "ns"}})
            raise ClusterUnreachable("the reply was lost")

    scene.cluster.before = lose_the_reply
    with pytest.raises(ClusterUnreachable):
        await scene.step()
    assert reason_of(await scene.step()) == "TaskRunning"
    assert scene.jobs == []


async def test_what_the_task_said_is_the_result() -> None:
    scene = Scene()
    await scene.step()
    scene.says(RESULT)
    result = await scene.step()
    assert isinstance(result, Done)
    assert result.report is not None
    assert result.loss is not None
    assert result.report.ok
    assert result.report.figures == {"seconds": 3.5, "documents": 90.0}
    assert result.report.notes == ("20260107T113000Z-41: ChecksumDiffers",)
    assert (result.loss.documents_lower, result.loss.documents_upper) == (1, 3)
    assert result.loss.ingest_again == ("p/d",)
    assert result.loss.backup == "20260107T110000Z-40"


async def test_a_loss_without_an_upper_bound_is_a_loss() -> None:
    scene = Scene()
    await scene.step()
    loss = {"documents_lower": 2, "documents_upper": None, "from": None, "until": None}
    scene.says({**RESULT, "measured": {"loss": loss, "backup_id": "b"}})
    result = await scene.step()
    assert isinstance(result, Done)
    assert result.loss is not None
    assert (result.loss.documents_lower, result.loss.documents_upper) == (2, None)
    assert "at least 2 documents lost" in result.message


async def test_a_result_counts_only_when_nothing_of_the_job_runs_any_more() -> None:
    scene = Scene()
    await scene.step()
    scene.pod_of_job({"terminated": {"exitCode": 0, "message": json.dumps(RESULT)}}, "Running")
    assert reason_of(await scene.step()) == "TaskRunning"


async def test_a_refusal_keeps_its_reason_and_changed_nothing() -> None:
    scene = Scene()
    await scene.step()
    scene.says(
        {"task": "restore", "attempt": "a", "ok": False, "refused": "none is good", "reason": "NoVerifiedBackup"},
        exit_code=1,
    )
    result = await scene.step()
    assert isinstance(result, Done)
    assert result.report is not None
    assert (result.report.refused, result.report.reason) == (True, "NoVerifiedBackup")
    assert "none is good" in result.report.message


@pytest.mark.parametrize(
    ("message", "reason", "expected"),
    [
        ("", "Error", "NoResult"),
        ("Traceback (most recent call last): …", "Error", "NoResult"),
        ("", "OOMKilled", "OutOfMemory"),
    ],
)
async def test_a_task_that_was_killed_may_have_changed_something(message: str, reason: str, expected: str) -> None:
    scene = Scene()
    await scene.step()
    scene.says(message, exit_code=137, reason=reason)
    result = await scene.step()
    assert isinstance(result, Done)
    assert result.report is not None
    assert (result.report.ok, result.report.has_result, result.report.refused) == (False, False, False)
    assert result.report.reason == expected


WAITING = {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}


async def test_a_job_that_does_not_start_is_given_up_by_its_deadline_with_the_reason() -> None:
    scene = Scene()
    await scene.step()
    scene.pod_of_job(WAITING, "Pending")
    assert reason_of(await scene.step()) == "TaskRunning"
    scene.now = datetime.fromisoformat("2026-01-01T00:00:01Z") + START_WITHIN + timedelta(days=30)
    await scene.step()
    spec = scene.cluster.objects["jobs", "ns", ATTEMPT]["spec"]
    assert isinstance(spec, Mapping)
    assert spec["activeDeadlineSeconds"] == 1
    scene.end_job("Failed", "DeadlineExceeded")
    scene.cluster.objects.pop(("pods", "ns", "pod-of-job"))
    result = await scene.step()
    assert isinstance(result, Done)
    assert result.report is not None
    assert (result.report.reason, result.report.refused) == ("ImageUnavailable", True)


async def test_a_pause_before_the_task_gives_it_up() -> None:
    scene = Scene()
    scene.pod("demo-a")
    await scene.step()
    pause(scene)
    result = await scene.step()
    assert isinstance(result, Done)
    assert result.report is not None
    assert (result.report.reason, result.report.refused) == ("Paused", True)
    assert scene.jobs == []


async def test_a_pause_while_the_task_runs_lets_it_end() -> None:
    scene = Scene()
    await scene.step()
    pause(scene)
    assert reason_of(await scene.step()) == "TaskRunning"


def pause(scene: Scene) -> None:
    spec = {"remediation": {"pauses": [{"reason": "migration"}]}}
    metadata = {"name": "demo", "namespace": "ns", "generation": 2}
    scene.put(KNOWLEDGE_BEAST, {"metadata": metadata, "spec": spec}, "kb")


async def test_the_kill_switch_holds_everything() -> None:
    scene = Scene()
    scene.pod("demo-a")
    await scene.step()
    body = {"metadata": {"name": "demo", "namespace": "ns"}, "spec": {"remediation": {"mode": "Disabled"}}}
    scene.put(KNOWLEDGE_BEAST, body, "kb")
    scene.cluster.objects.pop(("pods", "ns", "demo-a"))
    written = scene.writes
    assert isinstance(await scene.step(), Withheld)
    assert scene.writes == written


async def test_another_claim_of_that_name_is_left_alone() -> None:
    scene = Scene()
    scene.put(CLAIM_KIND, {"metadata": {"name": CLAIM.name, "namespace": "ns"}}, "another")
    assert reason_of(await scene.step()) == "ClaimGone"
    assert (scene.jobs, scene.fence) == ([], None)


async def test_an_approval_is_read_again_before_the_first_step() -> None:
    scene = Scene(approval_name="yes")
    assert reason_of(await scene.step()) == "NotApproved"
    asked = scene.attempt.approval
    assert asked is not None
    spec = {"incident": NAME, "attempt": ATTEMPT, "evidenceHash": asked.evidence_hash}
    given = {"metadata": {"name": "yes", "namespace": "ns", "creationTimestamp": NOW.isoformat()}, "spec": spec}
    scene.put(INCIDENT_APPROVAL, {**given, "spec": {**spec, "evidenceHash": "0"}})
    assert reason_of(await scene.step()) == "NotApproved"
    scene.put(INCIDENT_APPROVAL, given)
    assert reason_of(await scene.step()) == "TaskRunning"


async def test_a_fence_stays_while_its_attempt_is_at_work() -> None:
    scene = Scene()
    await scene.step()
    assert (await scene.settle(scene.attempt)).fence is not None


async def test_a_fence_ends_with_its_attempt() -> None:
    scene = Scene()
    await scene.step()
    scene.says(RESULT)
    assert (await scene.settle(scene.attempt.model_copy(update={"acted": NOW}))).fence is None
    assert scene.fence is None


async def test_a_fence_without_its_incident_waits_for_the_task_and_stops_it() -> None:
    scene = Scene()
    await scene.step()
    scene.pod_of_job({"running": {}}, "Running")
    assert (await scene.settle()).fence is not None
    assert (await scene.settle()).fence is not None
    assert [call for call in scene.writes if call[0] == "merge"] == [("merge", "jobs", ATTEMPT)]
    scene.says("", exit_code=143)
    assert (await scene.settle()).fence is None


async def test_a_watch_that_lags_stops_no_task() -> None:
    scene = Scene()
    await scene.step()
    scene.pod_of_job({"running": {}}, "Running")
    assert (await scene.settle(lagging=(scene.attempt,))).fence is not None
    assert [call for call in scene.writes if call[0] == "merge"] == []


async def test_a_fence_that_nobody_can_read_is_lifted() -> None:
    scene = Scene()
    scene.put(CONFIG_MAP, {"metadata": {"name": "demo-overlays", "namespace": "ns"}, "data": {"fence": "?"}})
    assert (await scene.settle()).fence is None
    assert scene.fence is None


async def test_our_own_fence_is_believed_before_the_watch_shows_it() -> None:
    scene = Scene()
    scene.pod("demo-a")
    await scene.step()
    kb = KnowledgeBeast.parse(scene.cluster.objects["knowledgebeasts", "ns", "demo"])
    assert scene.overlays.read(kb, []).fence is not None


async def test_of_two_attempts_the_second_waits_for_the_fence_of_the_first() -> None:
    scene = Scene()
    first = Fence(incident="other", attempt="other-1", at=NOW)
    data = {key: value for key, value in Overlays(fence=first).dump().items() if value is not None}
    scene.put(CONFIG_MAP, {"metadata": {"name": "demo-overlays", "namespace": "ns"}, "data": data})
    result = await scene.step()
    assert reason_of(result) == "Fencing"
    assert scene.fence == first
    assert scene.jobs == []
