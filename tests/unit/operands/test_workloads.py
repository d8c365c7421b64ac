import json
from collections.abc import Callable, Mapping
from typing import cast

import pytest

from knowledgebeast_operator.custom_resource.names import UID_LABEL
from knowledgebeast_operator.custom_resource.spec import RestoreFrom
from knowledgebeast_operator.operands import effective
from knowledgebeast_operator.operands.bootstrap import bootstrap_job
from knowledgebeast_operator.operands.maintenance import BesidePods, MaintenanceTask, job
from operand_objects import at, knowledge_beast, operands, pod_specs, selects


def deployment(spec: Mapping[str, object] | None = None) -> object:
    return operands(spec)["Deployment", "demo"]


def stateful_set(spec: Mapping[str, object] | None = None) -> object:
    return operands(spec)["StatefulSet", "demo-chroma"]


def environment(spec: Mapping[str, object] | None = None) -> dict[str, str]:
    variables = cast("list[dict[str, str]]", at(deployment(spec), "spec", "template", "spec", "containers", 0, "env"))
    assert len({variable["name"] for variable in variables}) == len(variables)
    return {variable["name"]: variable["value"] for variable in variables}


def settings(spec: Mapping[str, object] | None = None) -> dict[str, object]:
    return json.loads(str(at(operands(spec)["ConfigMap", "demo-settings"], "data", "settings.json")))


@pytest.mark.parametrize("made", [deployment, stateful_set])
def test_every_pod_names_the_object_that_it_belongs_to(made: Callable[[], object]) -> None:
    labels = cast("Mapping[str, str]", at(made(), "spec", "template", "metadata", "labels"))
    assert labels[UID_LABEL] == knowledge_beast().uid
    assert UID_LABEL not in cast("Mapping[str, str]", at(made(), "spec", "selector", "matchLabels"))


# No request is lost


def test_a_rollout_starts_a_new_pod_before_it_stops_an_old_one() -> None:
    assert at(deployment(), "spec", "strategy") == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
    }


def test_a_canary_serves_for_a_while_before_the_next_pod_is_replaced() -> None:
    spec = at(deployment({"rollout": {"canarySeconds": 300}}), "spec")
    wait, deadline = at(spec, "minReadySeconds"), at(spec, "progressDeadlineSeconds")
    assert wait == 300
    assert isinstance(deadline, int)
    assert deadline > 300  # or the API server refuses it, and every rollout would count as failed
    without = at(deployment(), "spec")
    assert isinstance(without, dict)
    assert "minReadySeconds" not in without


def test_a_stopping_pod_keeps_serving_until_nobody_asks_it() -> None:
    drain = int(environment()["DRAIN_SECONDS"])
    grace = at(deployment(), "spec", "template", "spec", "terminationGracePeriodSeconds")
    assert isinstance(grace, int)
    assert 0 < drain < grace - 30  # the longest request still ends within the grace period


# The volume is on one node


def test_service_pods_go_to_the_node_of_the_other_service_pods() -> None:
    terms = at(
        deployment(),
        "spec",
        "template",
        "spec",
        "affinity",
        "podAffinity",
        "requiredDuringSchedulingIgnoredDuringExecution",
    )
    assert at(terms, 0, "topologyKey") == "kubernetes.io/hostname"
    # An old pod of a rollout has to be found by a new one, whatever labels came with a later version.
    first_version = {"knowledgebeast.io/name": "demo", "app.kubernetes.io/component": "service"}
    assert selects(at(terms, 0, "labelSelector"), first_version)
    assert not selects(at(terms, 0, "labelSelector"), first_version | {"knowledgebeast.io/name": "other"})


def test_a_pod_matches_its_own_affinity_or_the_first_one_could_never_start() -> None:
    term = at(
        deployment(),
        "spec",
        "template",
        "spec",
        "affinity",
        "podAffinity",
        "requiredDuringSchedulingIgnoredDuringExecution",
        0,
    )
    labels = cast("dict[str, str]", at(deployment(), "spec", "template", "metadata", "labels"))
    assert selects(at(term, "labelSelector"), labels)


@pytest.mark.parametrize("manifest", [deployment(), stateful_set()])
def test_the_selector_matches_the_template(manifest: object) -> None:
    wanted = cast("dict[str, str]", at(manifest, "spec", "selector", "matchLabels"))
    labels = cast("dict[str, str]", at(manifest, "spec", "template", "metadata", "labels"))
    assert wanted.items() <= labels.items()


# Tuning restarts nothing


def test_settings_are_not_in_the_pod_template() -> None:
    tuned = {
        "service": {
            "config": {
                "rateLimitPerMinute": 1,
                "trustedProxies": 1,
                "maxDocumentSizeMB": 2,
                "chromaProbeIntervalSeconds": 3,
                "chromaTimeoutSeconds": 0.5,
                "canaryIntervalSeconds": 4,
                "probeIntervalSeconds": 8,
                "logLevel": "debug",
            }
        },
        "cache": {"queryEntries": 5, "embeddingEntries": 6, "maxMemoryMB": 77},
    }
    assert deployment(tuned) == deployment()
    assert settings(tuned) == {
        "RATE_LIMIT_PER_MINUTE": 1,
        "TRUSTED_PROXIES": 1,
        "MAX_DOCUMENT_SIZE_MB": 2,
        "CHROMA_PROBE_INTERVAL_SECONDS": 3,
        "CHROMA_TIMEOUT_SECONDS": 0.5,
        "CANARY_INTERVAL_SECONDS": 4,
        "PROBE_INTERVAL_SECONDS": 8,
        "LOG_LEVEL": "debug",
        "QUERY_CACHE_SIZE": 5,
        "EMBEDDING_CACHE_SIZE": 6,
        "MAX_CACHE_MEMORY_MB": 77,
    }


def test_the_settings_are_mounted_where_the_service_looks_for_them() -> None:
    pod = at(deployment(), "spec", "template", "spec")
    volumes = {str(at(volume, "name")): volume for volume in cast("list[object]", at(pod, "volumes"))}
    mounts = {
        str(at(mount, "name")): at(mount, "mountPath")
        for mount in cast("list[object]", at(pod, "containers", 0, "volumeMounts"))
    }
    assert at(volumes["settings"], "configMap", "name") == "demo-settings"
    assert environment()["SETTINGS_FILE"] == f"{mounts['settings']}/settings.json"


def test_the_keys_are_mounted_read_only_where_the_service_looks_for_them() -> None:
    spec = {"service": {"apiKeysSecretRef": {"name": "team-keys"}}}
    pod = at(deployment(spec), "spec", "template", "spec")
    (volume,) = [one for one in cast("list[object]", at(pod, "volumes")) if at(one, "name") == "api-keys"]
    mounts = cast("list[dict[str, object]]", at(pod, "containers", 0, "volumeMounts"))
    (mount,) = [one for one in mounts if one["name"] == "api-keys"]
    assert at(volume, "secret", "secretName") == "team-keys"
    assert "optional" not in cast("dict[str, object]", at(volume, "secret"))
    assert mount["readOnly"] is True
    path = at(volume, "secret", "items", 0, "path")
    assert environment(spec)["API_KEYS_FILE"] == f"{mount['mountPath']}/{path}"


def test_without_a_secret_there_are_no_keys() -> None:
    assert "API_KEYS_FILE" not in environment()
    assert "secret" not in str(at(deployment(), "spec", "template", "spec", "volumes"))


# What the owner adds


def test_pods_go_only_where_their_owner_allows() -> None:
    template = {
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}],
        "imagePullSecrets": [{"name": "registry"}],
    }
    for pod in pod_specs(operands({"service": {"podTemplate": template}})).values():
        assert {key: pod[key] for key in template} == template


def test_added_labels_and_annotations_do_not_displace_the_operators_own() -> None:
    template = {
        "labels": {"team": "search", "knowledgebeast.io/name": "other"},
        "annotations": {"note": "x", "prometheus.io/port": "1"},
    }
    metadata = at(deployment({"service": {"podTemplate": template}}), "spec", "template", "metadata")
    assert (at(metadata, "labels", "team"), at(metadata, "labels", "knowledgebeast.io/name")) == ("search", "demo")
    assert (at(metadata, "annotations", "note"), at(metadata, "annotations", "prometheus.io/port")) == ("x", "8000")


def test_pods_bear_the_digest_of_the_template_they_were_made_with() -> None:
    def digest(template: Mapping[str, object]) -> object:
        metadata = at(deployment({"service": {"podTemplate": template}}), "spec", "template", "metadata")
        return at(metadata, "annotations", "knowledgebeast.io/pod-template-digest")

    labels = {"team": "search", "tier": "1"}
    assert digest({"labels": labels}) == digest({"labels": dict(reversed(labels.items()))})
    assert len({digest({}), digest({"labels": labels}), digest({"env": [{"name": "A", "value": "b"}]})}) == 3


def test_added_variables_do_not_displace_the_operators_own() -> None:
    added = [{"name": "TRUSTED_PROXIES", "value": "1"}, {"name": "DATA_DIR", "value": "/elsewhere"}]
    variables = environment({"service": {"podTemplate": {"env": added}}})
    assert (variables["TRUSTED_PROXIES"], variables["DATA_DIR"]) == ("1", "/data")


def test_every_pod_on_the_data_volume_says_whose_it_must_be_by_name() -> None:
    """By the uid, an object that is made again would be refused the volume that it retained."""
    kb = knowledge_beast()
    last = effective(kb, default_image="i")
    source = RestoreFrom(claim_name="other-backups")
    jobs = {
        ("Job", "bootstrap"): bootstrap_job(kb, last, source),
        ("Job", "restore"): job(kb, last, MaintenanceTask("a1", "restore"), BesidePods()),
    }
    specs = pod_specs({**operands(), **jobs})
    on_volume = {name for name, spec in specs.items() if "demo-database" in json.dumps(spec["volumes"])}
    assert on_volume >= {"demo", "demo-backup", "demo-check", "demo-clean", "bootstrap", "restore"}
    for name in on_volume:
        variables = cast("list[dict[str, str]]", at(specs[name], "containers", 0, "env"))
        assert [one["value"] for one in variables if one["name"] == "VOLUME_OWNER"] == ["search/demo"], name


def test_resources_are_the_specs() -> None:
    asked = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "3", "memory": "3Gi"}}
    spec = {"service": {"resources": asked}, "chroma": {"resources": asked}}
    for pod in pod_specs(operands(spec)).values():
        assert at(pod, "containers", 0, "resources") == asked


# Chroma


def test_chroma_runs_from_the_service_image_on_its_own_claim() -> None:
    pod = at(stateful_set({"service": {"image": "mine:2"}}), "spec", "template", "spec")
    assert at(pod, "containers", 0, "image") == "mine:2"
    assert at(pod, "containers", 0, "command") == [
        *("chroma", "run", "--path", "/data"),
        *("--host", "0.0.0.0", "--port", "8000"),
    ]
    assert at(pod, "volumes", 0) == {"name": "chroma", "persistentVolumeClaim": {"claimName": "demo-chroma"}}


def test_one_process_has_chromas_files_open() -> None:
    assert at(stateful_set({"service": {"replicas": 5}}), "spec", "replicas") == 1


def test_a_chroma_that_never_became_ready_is_still_replaced_by_the_next_version() -> None:
    assert at(stateful_set(), "spec", "podManagementPolicy") == "Parallel"


def test_a_hung_chroma_is_gone_after_ten_seconds() -> None:
    assert at(stateful_set(), "spec", "template", "spec", "terminationGracePeriodSeconds") == 10


@pytest.mark.parametrize("manifest", [deployment(), stateful_set()])
def test_the_kubelet_waits_three_minutes_so_that_the_operator_acts_first(manifest: object) -> None:
    probe = at(manifest, "spec", "template", "spec", "containers", 0, "livenessProbe")
    period, failures = at(probe, "periodSeconds"), at(probe, "failureThreshold")
    assert isinstance(period, int)
    assert isinstance(failures, int)
    assert period * failures == 180


def test_a_restarted_chroma_is_noticed_within_a_second_and_may_take_minutes_to_load() -> None:
    probe = at(stateful_set(), "spec", "template", "spec", "containers", 0, "startupProbe")
    failures = at(probe, "failureThreshold")
    assert isinstance(failures, int)
    assert at(probe, "periodSeconds") == 1
    assert failures >= 180


def test_chroma_and_the_service_find_each_other() -> None:
    service = operands()["Service", "demo-chroma"]
    port = at(service, "spec", "ports", 0, "port")
    assert environment()["CHROMA_URL"] == f"http://{at(service, 'metadata', 'name')}:{port}"


def test_model_device_and_backend_of_the_spec_reach_the_service() -> None:
    assert (environment()["EMBEDDING_DEVICE"], environment()["EMBEDDING_BACKEND"]) == ("auto", "auto")
    asked = environment({"embedding": {"model": "other/model", "device": "cuda", "backend": "fp32"}})
    assert (asked["EMBEDDING_MODEL"], asked["EMBEDDING_DEVICE"]) == ("other/model", "cuda")
    assert asked["EMBEDDING_BACKEND"] == "fp32"


@pytest.mark.parametrize(("service", "workload"), [("demo", "Deployment"), ("demo-chroma", "StatefulSet")])
def test_a_service_reaches_the_pods_of_its_workload(service: str, workload: str) -> None:
    built = operands()
    template = at(built[workload, service], "spec", "template")
    wanted = cast("dict[str, str]", at(built["Service", service], "spec", "selector"))
    assert wanted.items() <= cast("dict[str, str]", at(template, "metadata", "labels")).items()
    assert at(built["Service", service], "spec", "ports", 0, "targetPort") == at(
        template, "spec", "containers", 0, "ports", 0, "name"
    )


# Claims


def test_a_class_is_asked_for_only_when_the_spec_names_one() -> None:
    spec = {"database": {"storage": {"storageClassName": "fast"}}}
    built = operands(spec)
    assert at(built["PersistentVolumeClaim", "demo-database"], "spec", "storageClassName") == "fast"
    assert "storageClassName" not in cast(
        "dict[str, object]", at(built["PersistentVolumeClaim", "demo-chroma"], "spec")
    )
