import json
from typing import cast

import pytest

from knowledgebeast_operator.operands import Manifest, effective
from knowledgebeast_operator.operands.maintenance import (
    Anywhere,
    BesidePods,
    MaintenanceTask,
    OnNode,
    Placement,
    job,
)
from operand_objects import at, knowledge_beast

ATTEMPT = "demo-database-corruption-0001-1"


def built(task: MaintenanceTask | None = None, placement: Placement | None = None) -> Manifest:
    kb = knowledge_beast()
    chosen = task or MaintenanceTask(attempt_id=ATTEMPT, task="check", arguments=("--full",))
    return job(kb, effective(kb, default_image="i"), chosen, placement or BesidePods())


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


@pytest.mark.parametrize(("volume", "component"), [("database", "service"), ("chroma", "chroma")])
def test_while_pods_run_the_job_goes_to_the_node_of_those_that_mount_the_volume(volume: str, component: str) -> None:
    manifest = built(MaintenanceTask(attempt_id=ATTEMPT, task="check", volume=volume))
    terms = at(
        manifest,
        "spec",
        "template",
        "spec",
        "affinity",
        "podAffinity",
        "requiredDuringSchedulingIgnoredDuringExecution",
    )
    assert at(terms, 0, "labelSelector", "matchLabels", "app.kubernetes.io/component") == component
    assert at(manifest, "spec", "template", "spec", "volumes", 0, "persistentVolumeClaim") == {
        "claimName": f"demo-{volume}"
    }


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
