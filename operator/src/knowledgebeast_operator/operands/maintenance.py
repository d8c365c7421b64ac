"""The Job of one maintenance task: `knowledgebeast maintain <task>` where the volume is."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from knowledgebeast_operator.custom_resource import KnowledgeBeast, names
from knowledgebeast_operator.custom_resource.names import (
    ATTEMPT_LABEL,
    DATABASE,
    MAINTENANCE,
    MAX_LABEL_LENGTH,
)
from knowledgebeast_operator.operands import pods
from knowledgebeast_operator.operands.effective import Effective
from knowledgebeast_operator.operands.manifest import Manifest, metadata, stamped
from knowledgebeast_operator.operands.service import service_environment

RETENTION_SECONDS: Final = 24 * 3600
"""How long a finished Job and its log stay for people to read."""

_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


@dataclass(frozen=True)
class BesidePods:
    """Pods that have the volume mounted are running: go to their node."""


@dataclass(frozen=True)
class OnNode:
    """No pod runs: go to the node where the volume was last in use."""

    node: str


@dataclass(frozen=True)
class Anywhere:
    """The volume was never in use, so any node may take it."""


Placement = BesidePods | OnNode | Anywhere


@dataclass(frozen=True)
class MaintenanceTask:
    """One run of a task.

    Attributes:
        attempt_id: names the Job; the same attempt twice is the same Job.
        task: name of the task, such as `check`.
        arguments: further words of the command line. They are never seen by a shell.
        volume: the volume that the task works on, mounted at /data.
        deadline_seconds: after this the Job is stopped.
    """

    attempt_id: str
    task: str
    arguments: tuple[str, ...] = ()
    volume: str = DATABASE
    deadline_seconds: int = 3600
    labels: Mapping[str, str] = field(default_factory=dict[str, str])


def job(kb: KnowledgeBeast, effective: Effective, task: MaintenanceTask, placement: Placement) -> Manifest:
    """The Job, named after the attempt.

    Raises:
        ValueError: the attempt or the task has no name that fits into a Job or a command line.
    """
    if len(task.attempt_id) > MAX_LABEL_LENGTH or not _NAME.fullmatch(task.attempt_id):
        raise ValueError(f"{task.attempt_id!r} cannot name a Job: at most 63 lower case letters, digits and hyphens")
    if not _NAME.fullmatch(task.task):
        raise ValueError(f"{task.task!r} is not the name of a task: lower case letters, digits and hyphens")
    labels = {**task.labels, ATTEMPT_LABEL: task.attempt_id}
    return stamped(
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": metadata(kb, task.attempt_id, MAINTENANCE, extra_labels=labels),
            "spec": {
                # Tasks can be killed at any instruction and run again; a third failure is a finding, not bad luck.
                "backoffLimit": 2,
                "activeDeadlineSeconds": task.deadline_seconds,
                "ttlSecondsAfterFinished": RETENTION_SECONDS,
                # The next pod waits until the last one is gone, or it would only wait for the volume's lock.
                "podReplacementPolicy": "Failed",
                "template": {
                    "metadata": {"labels": {**names.labels(kb.name, MAINTENANCE), **labels}},
                    "spec": _pod(kb, effective, task, placement),
                },
            },
        }
    )


def _pod(kb: KnowledgeBeast, effective: Effective, task: MaintenanceTask, placement: Placement) -> Manifest:
    command = ["knowledgebeast", "maintain", task.task, *task.arguments, "--attempt-id", task.attempt_id]
    container = {
        **pods.container(MAINTENANCE, effective.image, command, pods.resources(kb.spec.service.resources)),
        "env": pods.environment(service_environment(kb)),
        "volumeMounts": [
            {"name": task.volume, "mountPath": pods.DATA_FOLDER},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    return {
        **pods.pod_spec(
            kb,
            service_account=names.service_account_name(kb.name),
            container=container,
            volumes=[pods.claim_volume(kb, task.volume), pods.temporary_volume()],
        ),
        "restartPolicy": "Never",
        "affinity": _affinity(kb, task, placement),
    }


def _affinity(kb: KnowledgeBeast, task: MaintenanceTask, placement: Placement) -> Manifest:
    match placement:
        case BesidePods():
            return pods.beside(kb, names.component_of(task.volume))
        case OnNode(node):
            return pods.on_node(node)
        case Anywhere():
            return {}
