import json
from dataclasses import replace
from typing import cast

import pytest

from knowledgebeast_operator.custom_resource.names import DESIRED_HASH_ANNOTATION
from knowledgebeast_operator.operands import Effective, Manifest, build, desired_hash, effective
from operand_objects import REMOTE, at, knowledge_beast, operands

EVERYTHING = {
    ("ConfigMap", "demo-settings"),
    ("ServiceAccount", "demo-service"),
    ("ServiceAccount", "demo-chroma"),
    ("NetworkPolicy", "demo-service"),
    ("NetworkPolicy", "demo-chroma"),
    ("NetworkPolicy", "demo-remote"),
    ("PersistentVolumeClaim", "demo-database"),
    ("PersistentVolumeClaim", "demo-backups"),
    ("PersistentVolumeClaim", "demo-chroma"),
    ("Service", "demo"),
    ("Service", "demo-chroma"),
    ("Service", "demo-admin"),
    ("StatefulSet", "demo-chroma"),
    ("Deployment", "demo"),
    ("CronJob", "demo-backup"),
    ("CronJob", "demo-check"),
    ("CronJob", "demo-drill"),
    ("CronJob", "demo-warm"),
    ("CronJob", "demo-clean"),
}

RUN_THE_SERVICE = {
    ("Deployment", "demo"),
    ("CronJob", "demo-backup"),
    ("CronJob", "demo-check"),
    ("CronJob", "demo-drill"),
    ("CronJob", "demo-warm"),
    ("CronJob", "demo-clean"),
}
"""Whose pods have the database's volume mounted."""


def test_these_objects_and_no_others_are_built() -> None:
    assert set(operands()) == EVERYTHING


def test_what_others_refer_to_comes_before_the_workloads() -> None:
    kinds, workloads = [kind for kind, _ in operands()], ["StatefulSet", "Deployment", "CronJob"]
    assert list(dict.fromkeys(kinds))[-3:] == workloads


def test_while_the_database_is_filled_nothing_exists_that_would_use_it() -> None:
    kb = knowledge_beast()
    built = build(kb, replace(effective(kb, default_image="i"), is_bootstrapping=True))
    assert EVERYTHING - {(str(one["kind"]), str(at(one, "metadata", "name"))) for one in built} == RUN_THE_SERVICE


def test_behind_a_fence_no_service_pod_runs_and_no_scheduled_task_starts() -> None:
    kb = knowledge_beast()
    built = build(kb, replace(effective(kb, default_image="i"), is_fenced=True))
    by_kind = {str(one["kind"]): one for one in built}
    assert at(by_kind["Deployment"], "spec", "replicas") == 0
    assert [at(one, "spec", "suspend") for one in built if one["kind"] == "CronJob"] == [True] * 5
    assert at(by_kind["StatefulSet"], "spec", "replicas") == 1


def test_building_twice_gives_the_same() -> None:
    assert json.dumps([*operands().values()]) == json.dumps([*operands().values()])


@pytest.mark.parametrize("key", sorted(EVERYTHING))
def test_every_object_is_labelled_and_in_the_objects_namespace(key: tuple[str, str]) -> None:
    metadata = cast("Manifest", operands()[key]["metadata"])
    assert metadata["namespace"] == "search"
    assert at(metadata, "labels", "knowledgebeast.io/name") == "demo"
    assert at(metadata, "labels", "app.kubernetes.io/instance") == "demo"
    assert at(metadata, "labels", "app.kubernetes.io/managed-by") == "knowledgebeast-operator"
    assert at(metadata, "labels", "app.kubernetes.io/component") in {"service", "chroma", "maintenance"}


def owned(deletion_policy: str) -> set[tuple[str, str]]:
    built = operands({"deletionPolicy": deletion_policy})
    return {key for key, manifest in built.items() if "ownerReferences" in cast("Manifest", manifest["metadata"])}


def test_retain_leaves_the_claims_without_an_owner_and_nothing_else() -> None:
    assert EVERYTHING - owned("Retain") == {key for key in EVERYTHING if key[0] == "PersistentVolumeClaim"}


def test_delete_gives_the_claims_an_owner_too() -> None:
    assert owned("Delete") == EVERYTHING


def test_the_owner_is_named_by_uid_and_does_not_block_its_own_deletion() -> None:
    assert at(operands()["Deployment", "demo"], "metadata", "ownerReferences") == [
        {
            "apiVersion": "knowledgebeast.io/v1alpha1",
            "kind": "KnowledgeBeast",
            "name": "demo",
            "uid": "11111111-2222-3333-4444-555555555555",
            "controller": True,
        }
    ]


# Hashes


def hashes(spec: dict[str, object]) -> dict[tuple[str, str], object]:
    return {
        key: at(manifest, "metadata", "annotations", DESIRED_HASH_ANNOTATION)
        for key, manifest in operands(spec).items()
    }


@pytest.mark.parametrize(
    ("spec", "changed"),
    [
        pytest.param({}, set[tuple[str, str]](), id="an empty spec is the default"),
        pytest.param({"service": {"replicas": 3}}, {("Deployment", "demo")}, id="replicas"),
        pytest.param({"service": {"image": "other:2"}}, {*RUN_THE_SERVICE, ("StatefulSet", "demo-chroma")}, id="image"),
        pytest.param({"cache": {"queryEntries": 5}}, {("ConfigMap", "demo-settings")}, id="a cache size"),
        pytest.param(
            {"chroma": {"storage": {"size": "20Gi"}}}, {("PersistentVolumeClaim", "demo-chroma")}, id="a size"
        ),
        pytest.param(
            {"database": {"backup": {"keepDays": 3}}},
            {("CronJob", "demo-backup"), ("CronJob", "demo-clean")},
            id="keeping backups",
        ),
        pytest.param(
            {"database": {"backup": {"remote": REMOTE}}},
            {("CronJob", "demo-backup"), ("NetworkPolicy", "demo-remote")},
            id="copying backups",
        ),
        pytest.param(
            {"database": {"integrityCheckSchedule": "0 * * * *"}}, {("CronJob", "demo-check")}, id="a schedule"
        ),
        pytest.param({"remediation": {"mode": "DryRun"}}, set[tuple[str, str]](), id="remediation"),
    ],
)
def test_a_change_touches_only_what_it_concerns(spec: dict[str, object], changed: set[tuple[str, str]]) -> None:
    before, after = hashes({"remediation": {}}), hashes(spec)
    assert {key for key in before if before[key] != after[key]} == changed


def test_the_hash_does_not_depend_on_the_order_of_keys() -> None:
    assert desired_hash({"a": 1, "b": {"c": 2, "d": 3}}) == desired_hash({"b": {"d": 3, "c": 2}, "a": 1})


def test_the_hash_does_not_reach_the_pod_template() -> None:
    for key in [("Deployment", "demo"), ("StatefulSet", "demo-chroma")]:
        assert "desired-hash" not in json.dumps(at(operands()[key], "spec"))


# What is in force


def in_force(spec: dict[str, object], **live: str) -> Effective:
    return effective(knowledge_beast(spec), default_image="default:1", live_claim_sizes=live)


@pytest.mark.parametrize(
    ("asked", "live", "result"),
    [
        pytest.param("10Gi", "20Gi", "20Gi", id="a larger claim keeps its size"),
        pytest.param("20Gi", "10Gi", "20Gi", id="a smaller claim grows"),
        pytest.param("1Gi", "1024Mi", "1Gi", id="equal sizes written differently stay as the spec says"),
        pytest.param("10Gi", None, "10Gi", id="a claim that does not exist yet"),
    ],
)
def test_a_claim_never_asks_for_less_than_it_has(asked: str, live: str | None, result: str) -> None:
    sizes = {} if live is None else {"database": live}
    spec: dict[str, object] = {"database": {"storage": {"size": asked}}}
    built = operands(spec, live_claim_sizes=sizes)
    claim = built["PersistentVolumeClaim", "demo-database"]
    assert at(claim, "spec", "resources", "requests", "storage") == result


def test_without_an_image_the_operators_own_default_is_used() -> None:
    assert in_force({}).image == "default:1"
    assert in_force({"service": {"image": "mine:2"}}).image == "mine:2"


def test_replicas_never_exceed_their_maximum_even_in_an_object_older_than_the_rule() -> None:
    assert in_force({"service": {"replicas": 8, "maxReplicas": 3}}).replicas == 3


def test_an_object_of_the_longest_name_still_gives_valid_names() -> None:
    kb = knowledge_beast(name="k" * 40)
    for manifest in build(kb, effective(kb, default_image="i")):
        assert len(str(at(manifest, "metadata", "name"))) <= 52  # leaves a StatefulSet its revision hash
