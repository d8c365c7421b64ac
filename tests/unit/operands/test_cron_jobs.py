import json
from collections.abc import Mapping
from typing import cast

import pytest

from knowledgebeast_operator.operands.cron_jobs import TASKS
from operand_objects import REMOTE, at, operands

Json = Mapping[str, object]


def cron_job(task: str, spec: Json | None = None) -> object:
    return operands(spec)["CronJob", f"demo-{task}"]


def job(task: str, spec: Json | None = None) -> object:
    return at(cron_job(task, spec), "spec", "jobTemplate", "spec")


def command(task: str, spec: Json | None = None) -> list[str]:
    return cast("list[str]", at(job(task, spec), "template", "spec", "containers", 0, "command"))


def test_each_task_has_the_schedule_of_the_spec() -> None:
    spec = {
        "database": {
            "backup": {"schedule": "1 * * * *"},
            "integrityCheckSchedule": "2 * * * *",
            "restoreDrillSchedule": "3 * * * *",
            "cleanSchedule": "5 * * * *",
        },
        "cache": {"warmingSchedule": "4 * * * *"},
    }
    schedules = {task: at(cron_job(task, spec), "spec", "schedule") for task in TASKS}
    assert schedules == {
        "backup": "1 * * * *",
        "check": "2 * * * *",
        "drill": "3 * * * *",
        "warm": "4 * * * *",
        "clean": "5 * * * *",
    }
    assert {at(cron_job(task), "spec", "timeZone") for task in TASKS} == {"UTC"}


def test_the_backup_is_told_what_to_keep() -> None:
    spec = {"database": {"backup": {"keepDays": 2, "keepDailyDays": 9}}}
    assert command("backup", spec)[2:7] == ["backup", "--keep-days", "2", "--keep-daily-days", "9"]


def test_the_nightly_clean_keeps_the_same_backups_and_has_both_volumes() -> None:
    spec = {"database": {"backup": {"keepDays": 2, "keepDailyDays": 9}}}
    assert at(cron_job("clean"), "spec", "schedule") == "0 2 * * *"
    assert command("clean", spec)[2:7] == ["clean", "--keep-days", "2", "--keep-daily-days", "9"]
    mounts = cast("list[Json]", at(job("clean"), "template", "spec", "containers", 0, "volumeMounts"))
    assert {"/data", "/backups"} <= {mount["mountPath"] for mount in mounts}


def test_an_object_that_is_older_than_the_rule_keeps_daily_backups_at_least_as_long_as_all() -> None:
    spec = {"database": {"backup": {"keepDays": 40, "keepDailyDays": 9}}}
    assert command("backup", spec)[-4:-2] == ["--keep-daily-days", "40"]


@pytest.mark.parametrize("task", TASKS)
def test_each_run_is_an_attempt_of_its_own_named_after_its_job(task: str) -> None:
    assert command(task)[-2:] == ["--attempt-id", "$(ATTEMPT_ID)"]
    variables = cast("list[Json]", at(job(task), "template", "spec", "containers", 0, "env"))
    (found,) = [variable for variable in variables if variable["name"] == "ATTEMPT_ID"]
    assert at(found, "valueFrom", "fieldRef", "fieldPath") == "metadata.labels['batch.kubernetes.io/job-name']"


@pytest.mark.parametrize("task", TASKS)
def test_two_runs_of_a_task_are_never_under_way_at_once(task: str) -> None:
    assert at(cron_job(task), "spec", "concurrencyPolicy") == "Forbid"
    assert at(job(task), "activeDeadlineSeconds") == 3600


@pytest.mark.parametrize("task", TASKS)
def test_a_verdict_is_not_asked_for_again_and_a_drained_node_is_no_failure(task: str) -> None:
    rules = cast("list[Json]", at(job(task), "podFailurePolicy", "rules"))
    assert [rule["action"] for rule in rules] == ["Ignore", "FailJob"]
    assert at(rules[1], "onExitCodes", "values") == [1]
    assert at(job(task), "template", "spec", "restartPolicy") == "Never"  # or the API server refuses the policy


@pytest.mark.parametrize("task", TASKS)
def test_jobs_and_pods_can_be_found_by_object_and_task(task: str) -> None:
    for labels in (
        at(cron_job(task), "spec", "jobTemplate", "metadata", "labels"),
        at(job(task), "template", "metadata", "labels"),
    ):
        assert at(labels, "knowledgebeast.io/name") == "demo"
        assert at(labels, "knowledgebeast.io/task") == task
        assert at(labels, "app.kubernetes.io/component") == "maintenance"


@pytest.mark.parametrize("mode", ["Enforce", "DryRun", "Disabled"])
def test_no_mode_suspends_backups(mode: str) -> None:
    spec = {"remediation": {"mode": mode, "pauses": [{"reason": "migration"}]}}
    assert [at(cron_job(task, spec), "spec", "suspend") for task in TASKS] == [False] * 5


def test_a_drill_restores_onto_a_volume_of_its_own_as_large_as_the_databases() -> None:
    spec = {"database": {"storage": {"size": "70Gi", "storageClassName": "fast"}}}
    pod = at(job("drill", spec), "template", "spec")
    (volume,) = [one for one in cast("list[Json]", at(pod, "volumes")) if one["name"] == "scratch"]
    claim = at(volume, "ephemeral", "volumeClaimTemplate", "spec")
    assert (at(claim, "resources", "requests", "storage"), at(claim, "storageClassName")) == ("70Gi", "fast")
    mounts = cast("list[Json]", at(pod, "containers", 0, "volumeMounts"))
    (mount,) = [one for one in mounts if one["name"] == "scratch"]
    assert command("drill", spec)[3:5] == ["--scratch-dir", mount["mountPath"]]
    assert "scratch" not in str(at(job("backup", spec), "template", "spec", "volumes"))


def test_warming_asks_every_ready_pod() -> None:
    words = command("warm")
    url = words[words.index("--admin-url") + 1]
    assert url == "http://demo-admin:8001"
    assert "--all-addresses" in words
    admin = operands()["Service", "demo-admin"]
    assert at(admin, "spec", "clusterIP") == "None"
    assert at(admin, "spec", "selector") == at(operands()["Service", "demo"], "spec", "selector")
    assert at(admin, "spec", "ports", 0, "port") == 8001


def test_a_cron_job_can_be_written_down() -> None:
    assert json.loads(json.dumps(cron_job("backup")))["kind"] == "CronJob"


# Object storage


def variables(task: str) -> dict[str, Json]:
    spec = {"database": {"backup": {"remote": REMOTE}}}
    listed = cast("list[Json]", at(job(task, spec), "template", "spec", "containers", 0, "env"))
    return {str(one["name"]): one for one in listed if str(one["name"]).startswith("BACKUP_S3_")}


def test_a_backup_is_told_where_its_copies_go() -> None:
    values = {name: one["value"] for name, one in variables("backup").items() if "value" in one}
    assert values == {
        "BACKUP_S3_BUCKET": "backups",
        "BACKUP_S3_PREFIX": "search/demo/",
        "BACKUP_S3_REGION": "us-east-1",
        "BACKUP_S3_ENDPOINT": "https://minio.example:9000",
    }


def test_the_keys_come_from_the_secret_and_a_backup_is_made_without_them_too() -> None:
    references = {
        name: at(one, "valueFrom", "secretKeyRef") for name, one in variables("backup").items() if "valueFrom" in one
    }
    assert references == {
        "BACKUP_S3_ACCESS_KEY_ID": {"name": "s3-keys", "key": "accessKeyId", "optional": True},
        "BACKUP_S3_SECRET_ACCESS_KEY": {"name": "s3-keys", "key": "secretAccessKey", "optional": True},
    }


def test_no_other_task_gets_the_keys() -> None:
    assert [task for task in TASKS if variables(task)] == ["backup"]
