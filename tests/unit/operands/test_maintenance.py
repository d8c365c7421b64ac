import json
from typing import cast

import pytest

from knowledgebeast_operator.operands import Manifest, effective
from knowledgebeast_operator.operands.maintenance import (
    Anywhere,
    BesideObjects,
    BesidePods,
    MaintenanceTask,
    OnNode,
    Placement,
    job,
)
from operand_objects import at, knowledge_beast, operands, selects

REQUIRED = ("podAffinity", "requiredDuringSchedulingIgnoredDuringExecution")

ATTEMPT = "demo-database-corruption-0001-1"


def built(task: MaintenanceTask | None = None, placement: Placement | None = None) -> Manifest:
    kb = knowledge_beast()
    chosen = task or MaintenanceTask(attempt_id=ATTEMPT, task="check", arguments=("--full",))
    return job(kb, effective(kb, default_image="i"), chosen, placement or BesidePods())


def container(manifest: Manifest) -> object:
    return at(manifest, "spec", "template", "spec", "containers", 0)


def has_pods(manifest: Manifest) -> bool:
    return manifest["kind"] in {"Deployment", "StatefulSet", "CronJob"}


def labels_of(manifest: Manifest) -> dict[str, str]:
    """The labels of the pods of a workload."""
    spec = at(manifest, "spec", "jobTemplate", "spec") if manifest["kind"] == "CronJob" else at(manifest, "spec")
    return cast("dict[str, str]", at(spec, "template", "metadata", "labels"))


def test_the_job_is_named_after_its_attempt_so_that_a_repeat_changes_nothing() -> None:
    assert at(built(), "metadata", "name") == ATTEMPT
    assert built() == built()


def test_the_command_is_words_and_never_a_shell_line() -> None:
    task = MaintenanceTask(attempt_id=ATTEMPT, task="check", arguments=("--project", "p; rm -rf /", "$(id)"))
    container = at(built(task), "spec", "template", "spec", "containers", 0)
    assert at(container, "command") == [
        *("knowledgebeast", "maintain", "check"),
        *("--project", "p; rm -rf /", "$(id)"),
        *("--attempt-id", ATTEMPT),
    ]
    assert "args" not in cast("dict[str, object]", container)


@pytest.mark.parametrize(("volume", "workload"), [("database", "demo"), ("chroma", "demo-chroma")])
def test_a_job_goes_to_the_node_of_the_pods_that_mount_the_volume(volume: str, workload: str) -> None:
    pod = at(built(MaintenanceTask(attempt_id=ATTEMPT, task="check", volume=volume)), "spec", "template")
    others = {name: labels_of(manifest) for (_, name), manifest in operands().items() if has_pods(manifest)}
    wanted = at(pod, "spec", "affinity", *REQUIRED, 0, "labelSelector")
    assert [name for name, labels in others.items() if selects(wanted, labels)] == (
        [workload]
        if volume == "chroma"
        else [workload, "demo-backup", "demo-check", "demo-drill", "demo-warm", "demo-clean"]
    )
    assert at(pod, "spec", "volumes", 0, "persistentVolumeClaim") == {"claimName": f"demo-{volume}"}


def test_a_job_on_the_database_may_be_the_first_pod_anywhere() -> None:
    """With a required affinity that it does not match itself it would wait for ever while no service pod runs."""
    pod = at(built(), "spec", "template")
    wanted = at(pod, "spec", "affinity", *REQUIRED, 0, "labelSelector")
    assert selects(wanted, cast("dict[str, str]", at(pod, "metadata", "labels")))


def test_a_job_on_chromas_volume_draws_no_service_pod_to_its_node() -> None:
    task = MaintenanceTask(attempt_id=ATTEMPT, task="check", volume="chroma")
    labels = cast("dict[str, str]", at(built(task), "spec", "template", "metadata", "labels"))
    wanted = at(operands()["Deployment", "demo"], "spec", "template", "spec", "affinity", *REQUIRED, 0, "labelSelector")
    assert not selects(wanted, labels)


def test_a_job_that_mounts_a_claim_of_another_object_goes_to_its_pods_too() -> None:
    wanted = at(built(placement=BesideObjects(("other",))), "spec", "template", "spec", "affinity", *REQUIRED, 0)
    other = operands(name="other")["Deployment", "other"]
    assert selects(at(wanted, "labelSelector"), labels_of(other))


def test_a_task_on_the_database_has_the_backups_too_and_one_on_chroma_has_not() -> None:
    mounts = {volume: built(MaintenanceTask(ATTEMPT, "check", volume=volume)) for volume in ("database", "chroma")}
    shown = {
        volume: [at(one, "mountPath") for one in cast("list[object]", at(container(manifest), "volumeMounts"))]
        for volume, manifest in mounts.items()
    }
    assert shown == {"database": ["/data", "/backups", "/tmp"], "chroma": ["/data", "/tmp"]}
    assert {"name": "BACKUP_DIR", "value": "/backups"} in cast("list[object]", at(container(built()), "env"))


def test_a_task_that_dies_without_a_word_leaves_the_end_of_its_log() -> None:
    assert at(container(built()), "terminationMessagePolicy") == "FallbackToLogsOnError"


def test_without_pods_the_job_goes_to_the_recorded_node_through_the_scheduler() -> None:
    pod = at(built(placement=OnNode("node-1")), "spec", "template", "spec")
    required = at(pod, "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
    assert at(required, "nodeSelectorTerms", 0, "matchFields", 0, "values") == ["node-1"]
    assert "nodeName" not in cast("dict[str, object]", pod)


def test_a_volume_that_was_never_in_use_may_be_anywhere() -> None:
    assert at(built(placement=Anywhere()), "spec", "template", "spec", "affinity") == {}


def test_a_job_does_not_match_the_services_selector() -> None:
    labels = at(built(), "spec", "template", "metadata", "labels")
    assert at(labels, "app.kubernetes.io/component") == "maintenance"
    assert at(labels, "knowledgebeast.io/attempt") == ATTEMPT


def test_a_job_ends_and_is_removed_by_itself() -> None:
    spec = at(built(), "spec")
    assert at(spec, "activeDeadlineSeconds") == 3600
    assert at(spec, "ttlSecondsAfterFinished") == 24 * 3600
    assert at(spec, "template", "spec", "restartPolicy") == "Never"


@pytest.mark.parametrize("name", ["", "Upper", "under_score", "x" * 64, "a;b", "-a", "a\n"])
def test_an_attempt_that_cannot_name_a_job_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="cannot name a Job"):
        built(MaintenanceTask(attempt_id=name, task="check"))


@pytest.mark.parametrize("task", ["", "--help", "check;id", "Check", "a b"])
def test_what_is_no_task_is_an_error(task: str) -> None:
    with pytest.raises(ValueError, match="is not the name of a task"):
        built(MaintenanceTask(attempt_id=ATTEMPT, task=task))


def test_a_job_can_be_written_down() -> None:
    assert json.loads(json.dumps(built()))["kind"] == "Job"
