import json
from pathlib import Path

import pytest
import yaml

from local_cluster import gobuild, host, paths, pki, plan, render, settings
from local_cluster.paths import State

IMAGES = {"pause": "localhost/pause:1", "coredns": "localhost/coredns:1", "prometheus": "localhost/prometheus:1"}


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state")


@pytest.mark.parametrize("kind", ["config", "manifests"])
def test_every_template_renders_completely(state: State, kind: str) -> None:
    files = render.render_folder(kind, render.values(state, IMAGES))
    assert files
    assert not [name for name, text in files.items() if "@{" in text]
    for name, text in files.items():
        if name.endswith(".yaml"):
            assert all(isinstance(document, dict) for document in yaml.safe_load_all(text)), name


def test_an_unknown_name_in_a_template_is_an_error() -> None:
    with pytest.raises(KeyError, match="typo"):
        render.render("address: @{typo}", {"node_address": "10.90.0.2"})


def test_the_dollar_of_prometheus_survives_rendering() -> None:
    assert render.render("replacement: $1:$2", {}) == "replacement: $1:$2"


def test_configuration_carries_the_clusters_values(state: State) -> None:
    files = render.render_folder("config", render.values(state, IMAGES))
    kubelet = yaml.safe_load(files["kubelet.yaml"])
    assert kubelet["clusterDNS"] == [settings.DNS_ADDRESS]
    assert kubelet["authentication"]["x509"]["clientCAFile"] == f"{state.pki}/ca.crt"
    assert IMAGES["pause"] in files["containerd.toml"]
    network = json.loads(files["10-pods.conflist"])
    assert network["plugins"][0]["ipam"]["ranges"] == [[{"subnet": settings.NODE_POD_RANGE}]]


def test_exactly_one_of_the_two_storage_classes_expands(state: State) -> None:
    text = render.render_folder("manifests", render.values(state, IMAGES))["20-storage.yaml"]
    documents = [d for d in yaml.safe_load_all(text) if d["kind"] == "StorageClass"]
    assert {d["metadata"]["name"]: d["allowVolumeExpansion"] for d in documents} == {"expandable": True, "fixed": False}
    assert {d["volumeBindingMode"] for d in documents} == {"WaitForFirstConsumer"}


def _audit_level(state: State, user: str, groups: list[str], verb: str) -> str:
    """The level of the first rule that matches a request for pods, as the API server decides it."""
    policy = yaml.safe_load(render.render_folder("config", render.values(state, IMAGES))["audit-policy.yaml"])
    for rule in policy["rules"]:
        has_user = "users" not in rule or user in rule["users"]
        has_group = "userGroups" not in rule or set(groups) & set(rule["userGroups"])
        if "nonResourceURLs" not in rule and has_user and has_group and verb in rule.get("verbs", [verb]):
            return rule["level"]
    return "None"


@pytest.mark.parametrize(
    ("user", "groups", "verb", "level"),
    [
        ("system:serviceaccount:kb:operator", ["system:serviceaccounts:kb"], "watch", "Metadata"),
        ("system:serviceaccount:kb:operator", ["system:serviceaccounts:kb"], "get", "Metadata"),
        ("system:serviceaccount:kb:operator", ["system:serviceaccounts:kb"], "update", "Metadata"),
        ("system:node:node-1", ["system:nodes"], "update", "Metadata"),
        ("system:node:node-1", ["system:nodes"], "get", "None"),
        ("system:kube-scheduler", [], "watch", "None"),
        ("system:kube-scheduler", [], "create", "Metadata"),
        ("system:serviceaccount:kube-system:job-controller", ["system:serviceaccounts:kube-system"], "list", "None"),
        (
            "system:serviceaccount:kube-system:job-controller",
            ["system:serviceaccounts:kube-system"],
            "patch",
            "Metadata",
        ),
    ],
)
def test_audit_has_all_writes_and_all_that_programs_do(
    state: State, user: str, groups: list[str], verb: str, level: str
) -> None:
    assert _audit_level(state, user, groups, verb) == level


def test_the_api_servers_certificate_is_valid_for_every_way_to_reach_it() -> None:
    certificate = next(c for c in pki.CERTIFICATES if c.name == "apiserver")
    alternatives = next(e for e in certificate.extensions if e.startswith("subjectAltName"))
    for wanted in (
        f"IP:{settings.NODE_ADDRESS}", f"IP:{settings.API_SERVICE_ADDRESS}", "IP:127.0.0.1",
        "DNS:kubernetes.default.svc", "DNS:kubernetes.default.svc.cluster.local",
    ):  # fmt: skip
        assert wanted in alternatives.removeprefix("subjectAltName=").split(",")
    assert "extendedKeyUsage=serverAuth" in certificate.extensions


def test_a_client_certificate_names_user_and_group() -> None:
    kubelet = next(c for c in pki.CLIENTS if c.name == "kubelet")
    assert kubelet.subject == f"/O=system:nodes/CN=system:node:{settings.NODE_NAME}"
    assert "extendedKeyUsage=clientAuth" in kubelet.extensions


def test_every_daemon_has_a_plan_and_known_gates(state: State) -> None:
    made = plan.plan(state)
    assert [daemon["name"] for daemon in made["daemons"]] == list(plan.DAEMONS)
    assert {gate for daemon in made["daemons"] for gate in daemon["gates"]} <= set(made["gates"])
    assert all(Path(word.partition("=")[2]).is_absolute() for d in made["daemons"] for word in d["argv"]
               if word.startswith(("--kubeconfig=", "--config=", "--data-dir=")))  # fmt: skip


def test_the_plan_survives_json(state: State) -> None:
    assert json.loads(json.dumps(plan.plan(state))) == plan.plan(state)


def test_folders_follow_the_xdg_variables() -> None:
    environment = {"HOME": "/home/ada", "XDG_CACHE_HOME": "/fast/cache", "XDG_STATE_HOME": "relative/is/invalid"}
    assert paths.cache(environment).root == Path("/fast/cache/knowledgebeast")
    assert paths.state(environment).root == Path("/home/ada/.local/state/knowledgebeast/local-cluster")


@pytest.mark.parametrize(
    ("text", "version"), [("go1.26.8", (1, 26, 8)), ("go1.27", (1, 27, 0)), ("go1.26rc1", (1, 26, 0)), ("", ())]
)
def test_go_versions_are_compared_as_numbers(text: str, version: tuple[int, ...]) -> None:
    assert host.parse_go_version(text) == version


def test_the_needed_go_version_is_the_newest_that_a_module_asks_for() -> None:
    def asked(module: gobuild.GoModule) -> tuple[int, ...]:
        lines = (module.source / "go.mod").read_text().splitlines()
        line = next(line for line in lines if line.startswith("go "))
        return host.parse_go_version(line.replace(" ", ""))

    assert max(asked(module) for module in gobuild.MODULES) == host.GO_MINIMUM


def test_the_kubernetes_that_is_built_is_the_one_that_it_says_it_is() -> None:
    lines = (gobuild.KUBERNETES.source / "go.mod").read_text().splitlines()
    assert f"\tk8s.io/kubernetes {settings.KUBERNETES_VERSION}" in lines
