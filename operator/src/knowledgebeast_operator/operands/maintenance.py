"""The Job of one maintenance task: `knowledgebeast maintain <task>` where the volume is.

`operands.cron_jobs` has those that run by the clock, `operands.bootstrap` the one that fills a new database.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from knowledgebeast_operator.custom_resource import KnowledgeBeast, names
from knowledgebeast_operator.custom_resource.names import (
    ATTEMPT_LABEL,
    BACKUPS,
    CHROMA,
    DATABASE,
    MAINTENANCE,
    MAX_LABEL_LENGTH,
    TASK_LABEL,
    VOLUME_LABEL,
)
from knowledgebeast_operator.custom_resource.object_storage import ObjectStorage
from knowledgebeast_operator.operands import object_storage, pods
from knowledgebeast_operator.operands.effective import Effective
from knowledgebeast_operator.operands.manifest import Manifest, metadata, stamped
from knowledgebeast_operator.operands.service import service_environment

RETENTION_SECONDS: Final = 24 * 3600
"""How long a finished Job and its log stay for people to read."""

ANSWERED: Final = 1
"""How a task exits that has found damage or refuses: running it again at once would give the same answer."""

FAILURE_POLICY: Final[Manifest] = {
    "rules": [
        # A drained node is no failure of the task.
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [ANSWERED]}},
    ]
}

_SOURCE_MOUNT: Final[Manifest] = {"name": "source", "mountPath": pods.SOURCE_FOLDER, "readOnly": True}

_SCRATCH_MOUNT: Final[Manifest] = {"name": "scratch", "mountPath": pods.SCRATCH_FOLDER}

_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


@dataclass(frozen=True)
class BesidePods:
    """Go to the node of the pods that have the volume mounted; where none runs, to wherever the volume can go."""


@dataclass(frozen=True)
class OnNode:
    """No pod runs: go to the node where the volume was last in use."""

    node: str


@dataclass(frozen=True)
class Anywhere:
    """The volume was never in use, so any node may take it."""


@dataclass(frozen=True)
class BesideObjects:
    """The pod mounts a volume of other objects too: go to the node of whoever has it mounted."""

    others: tuple[str, ...]


Placement = BesidePods | OnNode | Anywhere | BesideObjects


@dataclass(frozen=True)
class MaintenanceTask:
    """One run of a task.

    Attributes:
        attempt_id: names the Job; the same attempt twice is the same Job.
        task: name of the task, such as `check`.
        arguments: further words of the command line. They are never seen by a shell.
        volume: the volume that the task works on, mounted at /data.
        deadline_seconds: after this the Job is stopped.
        labels: of the Job and of its pods, beside the usual ones.
        source_claim: a claim of another object, mounted at /source and only read.
        remote: object storage that the task may use; with `needs_remote` it does not start without the keys.
        has_scratch: a volume as large as the database's is made for the run, mounted at /scratch, and goes with it.
        run_id: names the run on the volume; empty, the attempt does. When people delete incidents, ids of attempts come
            again, and what an earlier run left on the volume must not be taken for the result of this one.
    """

    attempt_id: str
    task: str
    arguments: tuple[str, ...] = ()
    volume: str = DATABASE
    deadline_seconds: int = 3600
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    source_claim: str | None = None
    remote: ObjectStorage | None = None
    needs_remote: bool = False
    has_scratch: bool = False
    run_id: str = ""

    @property
    def mounts(self) -> Mapping[str, str]:
        """Folders by volume."""
        return {self.volume: pods.DATA_FOLDER, **({} if self.volume == CHROMA else {BACKUPS: pods.BACKUP_FOLDER})}


def job(kb: KnowledgeBeast, effective: Effective, task: MaintenanceTask, placement: Placement) -> Manifest:
    """The Job, named after the attempt.

    Raises:
        ValueError: the attempt or the task has no name that fits into a Job or a command line.
    """
    if len(task.attempt_id) > MAX_LABEL_LENGTH or not _NAME.fullmatch(task.attempt_id):
        raise ValueError(f"{task.attempt_id!r} cannot name a Job: at most 63 lower case letters, digits and hyphens")
    if not _NAME.fullmatch(task.task):
        raise ValueError(f"{task.task!r} is not the name of a task: lower case letters, digits and hyphens")
    labels = {**task.labels, ATTEMPT_LABEL: task.attempt_id, TASK_LABEL: task.task}
    run = task.run_id or task.attempt_id
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
                "podFailurePolicy": FAILURE_POLICY,
                "template": template(kb, effective, task, placement, attempt=run, labels=labels),
            },
        }
    )


def template(
    kb: KnowledgeBeast,
    effective: Effective,
    task: MaintenanceTask,
    placement: Placement,
    *,
    attempt: str,
    labels: Mapping[str, str],
    environment: tuple[Manifest, ...] = (),
) -> Manifest:
    """The pod of a task. `attempt` may be `$(NAME)` of a variable in `environment`, which the kubelet fills in."""
    command = ["knowledgebeast", "maintain", task.task, *task.arguments, "--attempt-id", attempt]
    container = {
        **pods.container(MAINTENANCE, effective.image, command, pods.resources(kb.spec.service.resources)),
        "env": [*pods.environment(service_environment(kb)), *_remote_environment(task), *environment],
        # Where a task ends without a word of its own, its log says why.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            *({"name": volume, "mountPath": folder} for volume, folder in task.mounts.items()),
            *([] if task.source_claim is None else [_SOURCE_MOUNT]),
            *([_SCRATCH_MOUNT] if task.has_scratch else []),
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    spec = pods.pod_spec(
        kb,
        service_account=names.service_account_name(kb.name),
        container=container,
        volumes=[
            *(pods.claim_volume(kb, volume) for volume in task.mounts),
            *([] if task.source_claim is None else [_source_volume(task.source_claim)]),
            *([_scratch_volume(kb, effective)] if task.has_scratch else []),
            pods.temporary_volume(),
        ],
    )
    volume_label = {VOLUME_LABEL: CHROMA if task.volume == CHROMA else DATABASE}
    return {
        "metadata": {"labels": {**names.labels(kb.name, MAINTENANCE), **volume_label, **labels}},
        "spec": {**spec, "restartPolicy": "Never", "affinity": _affinity(kb, task, placement)},
    }


def _remote_environment(task: MaintenanceTask) -> list[Manifest]:
    return [] if task.remote is None else object_storage.environment(task.remote, is_needed=task.needs_remote)


def _source_volume(claim: str) -> Manifest:
    return {"name": "source", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}


def _scratch_volume(kb: KnowledgeBeast, effective: Effective) -> Manifest:
    """A claim that Kubernetes makes with the pod and removes with it: an emptyDir would fill the node's own disk."""
    class_name = kb.spec.database.storage.storage_class_name
    spec: Manifest = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": effective.claim_sizes[DATABASE]}},
        **({} if class_name is None else {"storageClassName": class_name}),
    }
    return {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": spec}}}


def _affinity(kb: KnowledgeBeast, task: MaintenanceTask, placement: Placement) -> Manifest:
    match placement:
        case BesidePods() if task.volume == CHROMA:
            return pods.beside_chroma(kb.name)
        case BesidePods():
            return pods.beside_the_database(kb.name)
        case BesideObjects(others):
            return pods.beside_the_database(kb.name, *others)
        case OnNode(node):
            return pods.on_node(node)
        case Anywhere():
            return {}
