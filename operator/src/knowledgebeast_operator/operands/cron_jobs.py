"""The tasks that run by the clock, as CronJobs that go on without the operator.

A pause or `mode: Disabled` stops remediation, not these tasks. Only the fence of a restore suspends them.
"""

from dataclasses import dataclass, replace
from typing import Final

from knowledgebeast_operator.custom_resource import KnowledgeBeast, names
from knowledgebeast_operator.custom_resource.names import MAINTENANCE, TASK_LABEL
from knowledgebeast_operator.operands import pods
from knowledgebeast_operator.operands.effective import Effective
from knowledgebeast_operator.operands.maintenance import FAILURE_POLICY, BesidePods, MaintenanceTask, template
from knowledgebeast_operator.operands.manifest import Manifest, metadata

BACKUP: Final = "backup"
CHECK: Final = "check"
DRILL: Final = "drill"
WARM: Final = "warm"
CLEAN: Final = "clean"

TASKS: Final = (BACKUP, CHECK, DRILL, WARM, CLEAN)

WARMED_QUERIES: Final = 1000
"""Most asked queries of each project (runbook, incident 7, option C); the service remembers as many."""

KEPT_RUNS: Final = 3
"""Jobs of each kind that stay with their pods and logs, for people and for the operator to read."""

JOB_NAME_LABEL: Final = "batch.kubernetes.io/job-name"
"""On the pods of a Job. Its name is new for each run, and so is the attempt that is named after it."""

ATTEMPT_VARIABLE: Final = "ATTEMPT_ID"


@dataclass(frozen=True)
class _Timetable:
    schedule: str
    task: MaintenanceTask
    starting_deadline_seconds: int


def cron_jobs(kb: KnowledgeBeast, effective: Effective) -> list[Manifest]:
    """One CronJob for each task."""
    return [_cron_job(kb, effective, timetable) for timetable in _timetables(kb)]


def _timetables(kb: KnowledgeBeast) -> list[_Timetable]:
    database, backup = kb.spec.database, kb.spec.database.backup
    keep = backup.retention_arguments
    drill = replace(_task(kb, DRILL, ("--scratch-dir", pods.SCRATCH_FOLDER)), has_scratch=True)
    return [
        _Timetable(backup.schedule, replace(_task(kb, BACKUP, keep), remote=backup.remote), 3600),
        _Timetable(database.integrity_check_schedule, _task(kb, CHECK), 3600),
        # Missed on a Sunday, it is still made up for on the same day.
        _Timetable(database.restore_drill_schedule, drill, 24 * 3600),
        _Timetable(kb.spec.cache.warming_schedule, _task(kb, WARM, warming(kb.name, WARMED_QUERIES)), 3600),
        _Timetable(database.clean_schedule, _task(kb, CLEAN, keep), 12 * 3600),
    ]


def warming(name: str, queries: int) -> tuple[str, ...]:
    """The words of `knowledgebeast maintain warm` that warm every ready service pod of the object."""
    url = f"http://{names.admin_name(name)}:{pods.ADMIN_PORT}"
    return ("--project", "all", "--top-queries", str(queries), "--admin-url", url, "--all-addresses")


def _task(kb: KnowledgeBeast, task: str, arguments: tuple[str, ...] = ()) -> MaintenanceTask:
    return MaintenanceTask(names.cron_job_name(kb.name, task), task, arguments)


def _cron_job(kb: KnowledgeBeast, effective: Effective, timetable: _Timetable) -> Manifest:
    task = timetable.task
    labels = {TASK_LABEL: task.task}
    name_of_job = {"fieldRef": {"fieldPath": f"metadata.labels['{JOB_NAME_LABEL}']"}}
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": metadata(kb, task.attempt_id, MAINTENANCE, extra_labels=labels),
        "spec": {
            "schedule": timetable.schedule,
            "timeZone": "UTC",
            "suspend": effective.is_fenced,
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": timetable.starting_deadline_seconds,
            "successfulJobsHistoryLimit": KEPT_RUNS,
            "failedJobsHistoryLimit": KEPT_RUNS,
            "jobTemplate": {
                "metadata": {"labels": {**names.labels(kb.name, MAINTENANCE), **labels}},
                "spec": {
                    "backoffLimit": 2,
                    "activeDeadlineSeconds": task.deadline_seconds,
                    "podReplacementPolicy": "Failed",
                    "podFailurePolicy": FAILURE_POLICY,
                    "template": template(
                        kb,
                        effective,
                        task,
                        BesidePods(),
                        attempt=f"$({ATTEMPT_VARIABLE})",
                        labels=labels,
                        environment=({"name": ATTEMPT_VARIABLE, "valueFrom": name_of_job},),
                    ),
                },
            },
        },
    }
