"""The manifests fit the programs: samples parse, the configuration loads, settings arrive at the service."""

from pathlib import Path
from typing import cast, get_args

import pytest
import yaml

from knowledgebeast_operator.cluster import kinds
from knowledgebeast_operator.custom_resource import KnowledgeBeast
from knowledgebeast_operator.custom_resource.spec import Backend, Device
from knowledgebeast_operator.dependencies import WATCHED
from knowledgebeast_operator.operands.effective import runtime_settings
from knowledgebeast_operator.operands.object_storage import environment
from knowledgebeast_operator.settings import CONFIG_FILE, Settings
from knowledgebeast_service.maintenance.backups.remote import RemoteSettings
from knowledgebeast_service.settings import LiveSettings
from knowledgebeast_service.settings import Settings as ServiceSettings
from operand_objects import REMOTE, knowledge_beast, operands

MANIFESTS = Path(__file__).parents[2] / "manifests"

Json = dict[str, object]


def sample(name: str) -> Json:
    body = yaml.safe_load((MANIFESTS / "samples" / f"{name}.yaml").read_text())
    body["metadata"] |= {"namespace": "search", "uid": "u"}
    return body


@pytest.mark.parametrize("name", ["knowledgebeast", "test-profile"])
def test_a_sample_parses(name: str) -> None:
    assert KnowledgeBeast.parse(sample(name)).name == "demo"


def test_every_sample_is_tested() -> None:
    assert {path.stem for path in (MANIFESTS / "samples").glob("*.yaml")} == {"knowledgebeast", "test-profile"}


def test_the_operators_configuration_loads() -> None:
    written = yaml.safe_load((MANIFESTS / "operator" / "config.yaml").read_text())
    settings = Settings.model_validate(written)
    assert set(settings.prometheus) == {"default"}
    assert settings.watched_namespaces == ("search",)


def deployment() -> Json:
    return yaml.safe_load((MANIFESTS / "operator" / "deployment.yaml").read_text())


def test_the_deployment_matches_the_operators_settings() -> None:
    pod = cast("Json", deployment()["spec"])["template"]
    (container,) = cast("list[Json]", cast("Json", cast("Json", pod)["spec"])["containers"])
    ports = {port["name"]: port["containerPort"] for port in cast("list[Json]", container["ports"])}
    mounts = [mount["mountPath"] for mount in cast("list[Json]", container["volumeMounts"])]
    defaults = Settings.model_fields
    assert ports == {"metrics": defaults["metrics_port"].default, "liveness": defaults["liveness_port"].default}
    assert str(Path(CONFIG_FILE).parent) in mounts


TUNED: Json = {
    "service": {
        "config": {
            "rateLimitPerMinute": 1,
            "trustedProxies": 1,
            "maxDocumentSizeMB": 2,
            "chromaProbeIntervalSeconds": 3,
            "chromaTimeoutSeconds": 0.5,
            "canaryIntervalSeconds": 4,
            "logLevel": "debug",
        }
    },
    "cache": {"queryEntries": 5, "embeddingEntries": 6, "maxMemoryMB": 77},
}


def settings_for(spec: Json) -> Json:
    kb = KnowledgeBeast.parse({"metadata": {"name": "demo", "namespace": "n", "uid": "u"}, "spec": spec})
    return {name.lower(): value for name, value in runtime_settings(kb).items()}


def test_the_service_takes_every_runtime_setting_live() -> None:
    written = settings_for(TUNED)
    read = LiveSettings.model_validate(written).model_dump()
    assert {name: read[name] for name in written} == written


def test_defaults_of_the_object_are_the_services_own() -> None:
    written = settings_for({})
    defaults = {name: LiveSettings.model_fields[name].default for name in written}
    assert written == defaults


@pytest.mark.parametrize(
    "variable",
    [
        "DATA_DIR",
        "VOLUME_OWNER",
        "BACKUP_DIR",
        "CHROMA_URL",
        "MODEL_DIR",
        "MODEL_COPY_DIR",
        "EMBEDDING_MODEL",
        "EMBEDDING_DEVICE",
        "EMBEDDING_BACKEND",
        "SETTINGS_FILE",
        "DRAIN_SECONDS",
        "ADMIN_PORT",
        "PROBE_URL",
        "API_KEYS_FILE",
    ],
)
def test_the_service_reads_every_variable_of_its_pod(variable: str) -> None:
    assert variable.lower() in ServiceSettings.model_fields


def test_the_service_takes_where_copies_go_and_the_keys_from_the_environment_of_a_backup(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kb = knowledge_beast({"database": {"backup": {"remote": REMOTE}}})
    remote = kb.spec.database.backup.remote
    assert remote is not None
    for variable in cast("list[Json]", environment(remote, is_needed=False)):
        monkeypatch.setenv(str(variable["name"]), str(variable.get("value", "a key")))
    read = RemoteSettings()
    assert (read.bucket, read.prefix, read.region, read.endpoint) == (
        *("backups", "search/demo/", "us-east-1", "https://minio.example:9000"),
    )
    assert {read.access_key_id.get_secret_value(), read.secret_access_key.get_secret_value()} == {"a key"}
    assert read.location == remote.location, "the operator knows its place in results by this"


@pytest.mark.parametrize("field", ["device", "backend"])
def test_the_object_offers_what_the_service_can_be_asked_for(field: str) -> None:
    offered = {str(value) for value in get_args(ServiceSettings.model_fields[f"embedding_{field}"].annotation)}
    assert {value.value for value in {"device": Device, "backend": Backend}[field]} == offered


RIGHTS = [
    (path.parent.name, document["kind"], rule)
    for path in sorted(MANIFESTS.glob("*/rbac.yaml"))
    for document in yaml.safe_load_all(path.read_text())
    for rule in document.get("rules", [])
]


@pytest.mark.parametrize(("folder", "kind", "rule"), RIGHTS)
def test_no_right_is_a_wildcard_or_a_way_around_the_others(folder: str, kind: str, rule: dict[str, list[str]]) -> None:
    resources, verbs = set(rule["resources"]), set(rule["verbs"])
    assert not {"*"} & (resources | verbs | set(rule["apiGroups"]))
    assert not {"secrets", "pods/exec", "pods/attach", "pods/portforward", "serviceaccounts/token"} & resources
    assert not {"escalate", "bind", "impersonate", "deletecollection"} & verbs
    assert kind == "Role" or verbs <= {"get", "list", "watch"}


def test_there_are_rights_to_check() -> None:
    assert len(RIGHTS) > 8


def granted(group: str, resource: str) -> set[str]:
    """The verbs that the managed namespace's Role, or the ClusterRole, grants for a resource."""
    matching = [rule for _, _, rule in RIGHTS if group in rule["apiGroups"] and resource in rule["resources"]]
    return {verb for rule in matching for verb in rule["verbs"]}


@pytest.mark.parametrize("kind", [*WATCHED, kinds.NODE], ids=lambda kind: kind.name)
def test_whatever_is_watched_may_be_listed_and_watched(kind: kinds.Kind) -> None:
    group = kind.api_version.rpartition("/")[0]
    assert {"list", "watch"} <= granted(group, kind.plural)


@pytest.mark.parametrize("kind", kinds.OPERANDS, ids=lambda kind: kind.name)
def test_every_operand_may_be_applied_and_none_deleted(kind: kinds.Kind) -> None:
    verbs = granted(kind.api_version.rpartition("/")[0], kind.plural)
    assert {"create", "patch"} <= verbs
    assert not {"delete", "update"} & verbs


def test_every_kind_that_is_built_is_an_operand() -> None:
    assert {kind for kind, _ in operands()} == {kind.name for kind in kinds.OPERANDS}
