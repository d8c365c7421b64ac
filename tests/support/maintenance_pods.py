"""Pods of maintenance tasks as the API server shows them, ended or not."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta

from kb_facts import NOW
from knowledgebeast_operator.cluster.objects import LiveOperand, LivePod

BACKUP: Mapping[str, object] = {
    "backup_id": "20260107T120000Z-4711",
    "created_at": "2026-01-07T12:00:00+00:00",
    "seq": 4711,
    "bytes": 3 * 1024 * 1024,
    "documents": 9,
}
DRILL: Mapping[str, object] = {"backup_id": "20260107T110000Z-4000", "documents": 1200, "seconds": 12.34, "ok": True}
NO_DAMAGE: Mapping[str, object] = {"damage": "none", "problems": [], "seq": 4711}


def result(measured: Mapping[str, object], *, ok: bool = True, **more: object) -> str:
    """What `knowledgebeast maintain` leaves in the termination message."""
    return json.dumps({"task": "t", "attempt": "a", "ok": ok, "measured": measured, **more})


def ended(
    task: str, message: str | None, *, at: datetime = NOW, code: int = 0, reason: str = "Completed", job: str = ""
) -> LivePod:
    """A pod of the task whose container ended at that time."""
    terminated = {"exitCode": code, "reason": reason, "message": message, "finishedAt": at.isoformat()}
    return _pod(task, {"terminated": terminated}, at, job or f"demo-{task}-{at:%H%M}")


def running(task: str, *, at: datetime = NOW) -> LivePod:
    return _pod(task, {"running": {"startedAt": at.isoformat()}}, at, f"demo-{task}-now")


def waiting(job: str, reason: str, message: str) -> LivePod:
    """The pod of a Job that is named after its attempt; its container cannot start."""
    pod = _pod("restore", {"waiting": {"reason": reason, "message": message}}, NOW, job)
    labels = {**pod.metadata.labels, "knowledgebeast.io/attempt": job}
    return pod.model_copy(update={"metadata": pod.metadata.model_copy(update={"labels": labels})})


def _pod(task: str, state: object, at: datetime, job: str) -> LivePod:
    return LivePod.model_validate(
        {
            "metadata": {
                "name": f"{job}-x2x2x",
                "namespace": "search",
                "uid": job,
                "resourceVersion": "1",
                "creationTimestamp": (at - timedelta(seconds=10)).isoformat(),
                "labels": {"knowledgebeast.io/task": task, "batch.kubernetes.io/job-name": job},
            },
            "status": {"containerStatuses": [{"name": "maintenance", "state": state}]},
        }
    )


def cron_jobs(*, made_at: datetime = NOW) -> list[LiveOperand]:
    """The three of `demo`."""
    return [
        LiveOperand.model_validate(
            {
                "kind": "CronJob",
                "metadata": {
                    "name": f"demo-{task}",
                    "uid": task,
                    "resourceVersion": "1",
                    "creationTimestamp": made_at.isoformat(),
                },
            }
        )
        for task in ("backup", "check", "drill")
    ]
