"""What the other end-to-end tests take for granted about the local cluster, tested on the running one."""

import json
import os
import subprocess
import time
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
import yaml

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

CLUSTER = Path(__file__).parents[2] / "hack/local-cluster/cluster.py"
NAMESPACE = "local-cluster-test"
VOLUMES = 10  # more than the eight loop devices that a machine has from its start
MIB = 1 << 20


@dataclass(frozen=True)
class LocalCluster:
    kubeconfig: str
    audit_log: Path
    prometheus: str
    toolbox: str

    @property
    def program(self) -> str:
        """The cluster's own kubectl: a machine need not have one."""
        return str(Path(self.kubeconfig).parent / "bin/kubectl")

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        done = self.try_kubectl(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def try_kubectl(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [self.program, "--kubeconfig", self.kubeconfig, "--namespace", NAMESPACE, *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)

    def apply(self, *objects: Mapping[str, object]) -> None:
        self.kubectl("apply", "--filename=-", stdin=yaml.safe_dump_all(objects))

    def in_pod(self, *command: str) -> subprocess.CompletedProcess[str]:
        return self.try_kubectl("exec", "tools", "--", *command)

    def query(self, promql: str) -> list[float]:
        """The values of an instant vector."""
        url = f"{self.prometheus}/api/v1/query?{urllib.parse.urlencode({'query': promql})}"
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as answer:
            found = json.load(answer)["data"]["result"]
        return [float(series["value"][1]) for series in found]

    def audited(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.audit_log.read_text().splitlines()]


def eventually(subject: str, ask: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not ask():
        assert time.monotonic() < deadline, f"not within {seconds} s: {subject}"
        time.sleep(0.2)


def _tool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["python3", CLUSTER, *arguments], capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    status = json.loads(_tool("status", "--json").stdout)
    if os.environ.get("KUBECONFIG", status["kubeconfig"]) != status["kubeconfig"]:
        pytest.skip("KUBECONFIG names another cluster; these tests are about the local one")
    assert status["up"], "the local cluster is down: make cluster-up"
    found = LocalCluster(status["kubeconfig"], Path(status["audit_log"]), status["prometheus"],
                         status["images"]["toolbox"])  # fmt: skip
    found.try_kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=60s")
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    found.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}})
    yield found
    found.kubectl("delete", "namespace", NAMESPACE, "--timeout=60s")


def claim(name: str, storage_class: str, size: str) -> dict[str, object]:
    spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": storage_class,
            "resources": {"requests": {"storage": size}}}  # fmt: skip
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def pod(name: str, image: str, claims: list[str], **security: object) -> dict[str, object]:
    """A busybox that serves the files in /www on port 8080 and mounts each claim at /CLAIM."""
    container = {
        "name": "tools",
        "image": image,
        "command": ["sh", "-c", "echo 'local_cluster_test 42' > /www/metrics.txt; exec httpd -f -p 8080 -h /www"],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, **security},
        "readinessProbe": {"httpGet": {"path": "/metrics.txt", "port": 8080}, "periodSeconds": 1},
        "volumeMounts": [{"name": name, "mountPath": f"/{name}"} for name in ("www", *claims)],
    }
    spec: dict[str, object] = {
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "fsGroup": 65532,
                            "seccompProfile": {"type": "RuntimeDefault"}},
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
        "volumes": [{"name": "www", "emptyDir": {}},
                    *({"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claims)],
    }  # fmt: skip
    annotations = {"prometheus.io/scrape": "true", "prometheus.io/port": "8080", "prometheus.io/path": "/metrics.txt"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "annotations": annotations}, "spec": spec}


@pytest.fixture(scope="module")
def tools(cluster: LocalCluster) -> LocalCluster:
    """The cluster with a pod `tools` in it, which mounts `growing`, `rigid` and eight volumes more."""
    names = ["growing", "rigid", *(f"more-{number}" for number in range(VOLUMES - 2))]
    claims = [claim(name, "expandable" if name == "growing" else "fixed", "400Mi") for name in names]
    cluster.apply(*claims, pod("tools", cluster.toolbox, names))
    cluster.kubectl("wait", "--for=condition=Ready", "pod/tools", "--timeout=60s")
    return cluster


def mebibytes(tools: LocalCluster, folder: str) -> int:
    return int(tools.in_pod("df", "-m", folder).stdout.splitlines()[-1].split()[1])


def test_more_volumes_than_boot_time_loop_devices_are_mounted(tools: LocalCluster) -> None:
    mounts = tools.in_pod("cat", "/proc/mounts").stdout.splitlines()
    devices = {line.split()[0] for line in mounts if line.startswith("/dev/loop")}
    assert len(devices) == VOLUMES


def test_a_volume_has_its_size_and_fills_up(tools: LocalCluster) -> None:
    assert 300 < mebibytes(tools, "/rigid") <= 400
    written = tools.in_pod("dd", "if=/dev/zero", "of=/rigid/file", "bs=1M", "count=500")
    assert written.returncode != 0
    assert "No space left on device" in written.stderr
    assert tools.in_pod("rm", "/rigid/file").returncode == 0


def test_an_expandable_volume_grows_under_a_running_pod(tools: LocalCluster) -> None:
    patch = json.dumps({"spec": {"resources": {"requests": {"storage": "800Mi"}}}})
    tools.kubectl("patch", "pvc", "growing", "--patch", patch)
    eventually("df shows the new size", lambda: mebibytes(tools, "/growing") > 700)
    show = ("get", "pvc", "growing", "--output=jsonpath={.status.capacity.storage}")
    eventually("the claim shows the new size", lambda: tools.kubectl(*show) == "800Mi")


def test_a_fixed_volume_refuses_to_grow(tools: LocalCluster) -> None:
    patch = json.dumps({"spec": {"resources": {"requests": {"storage": "800Mi"}}}})
    refused = tools.try_kubectl("patch", "pvc", "rigid", "--patch", patch)
    assert refused.returncode != 0
    assert "must support resize" in refused.stderr


def test_restricted_pod_security_rejects_a_bad_pod(cluster: LocalCluster) -> None:
    bad = pod("bad", cluster.toolbox, [], allowPrivilegeEscalation=True)
    refused = cluster.try_kubectl("apply", "--filename=-", stdin=yaml.safe_dump(bad))
    assert refused.returncode != 0
    assert 'violates PodSecurity "restricted' in refused.stderr


@pytest.mark.parametrize("job", ["kubelet", "cadvisor", "apiserver"])
def test_prometheus_scrapes_the_cluster_itself(cluster: LocalCluster, job: str) -> None:
    assert cluster.query(f'up{{job="{job}"}}') == [1.0]


def test_prometheus_finds_an_annotated_pod_and_names_it(tools: LocalCluster) -> None:
    series = f'local_cluster_test{{namespace="{NAMESPACE}",pod="tools"}}'
    eventually("the pod's metric is in Prometheus", lambda: tools.query(series) == [42.0])


def test_prometheus_knows_how_full_a_volume_is(tools: LocalCluster) -> None:
    series = f'kubelet_volume_stats_capacity_bytes{{namespace="{NAMESPACE}",persistentvolumeclaim="rigid"}}'
    eventually("the kubelet's volume metrics are in Prometheus", lambda: bool(tools.query(series)), seconds=60)
    assert 300 * MIB < tools.query(series)[0] <= 400 * MIB


def test_names_of_the_cluster_resolve_in_a_pod(tools: LocalCluster) -> None:
    answer = tools.in_pod("nslookup", "prometheus.monitoring.svc.cluster.local")
    assert answer.returncode == 0
    assert "10.96.0.90" in answer.stdout


def test_names_outside_fail_at_once(tools: LocalCluster) -> None:
    begun = time.monotonic()
    answer = tools.in_pod("nslookup", "outside.example")
    assert answer.returncode != 0
    assert "NXDOMAIN" in answer.stdout + answer.stderr
    assert time.monotonic() - begun < 5


def test_no_route_leads_out() -> None:
    routes = _tool("exec", "--", "ip", "route").stdout
    assert "10.244.0.0/24" in routes
    assert "default" not in routes


def test_the_audit_log_has_writes_of_leases(cluster: LocalCluster) -> None:
    name = f"audited-{uuid.uuid4().hex[:8]}"  # the log also holds what earlier runs did
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": {}}
    cluster.apply(lease)
    assert [event["verb"] for event in cluster.audited() if _touches(event, "leases", name)] == ["get", "create"]


def test_the_audit_log_has_reads_of_service_accounts(cluster: LocalCluster, tmp_path: Path) -> None:
    token = cluster.kubectl("create", "token", "default").strip()
    config = yaml.safe_load(Path(cluster.kubeconfig).read_text())
    config["users"][0]["user"] = {"token": token}
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    command = [cluster.program, "--kubeconfig", str(kubeconfig), "get", "configmap", "asked-for", "-n", NAMESPACE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert "forbidden" in done.stderr.lower()
    recorded = [event for event in cluster.audited() if _touches(event, "configmaps", "asked-for")]
    users = {cast("dict[str, object]", event["user"])["username"] for event in recorded}
    assert users == {f"system:serviceaccount:{NAMESPACE}:default"}


def test_the_audit_log_is_free_of_the_control_planes_reads(cluster: LocalCluster) -> None:
    reads = [event for event in cluster.audited() if event["verb"] in ("get", "list", "watch")]
    names = {str(cast("dict[str, object]", event["user"])["username"]) for event in reads}
    noise = ("system:kube-", "system:node:", "system:serviceaccount:kube-system:")
    assert not [name for name in names if name.startswith(noise)]


def _touches(event: dict[str, object], resource: str, name: str) -> bool:
    reference = cast("dict[str, object]", event.get("objectRef") or {})
    return (reference.get("resource"), reference.get("name"), reference.get("namespace")) == (resource, name, NAMESPACE)


def _daemon(name: str) -> dict[str, object]:
    daemons: list[dict[str, object]] = json.loads(_tool("status", "--json").stdout)["daemons"]
    return next(daemon for daemon in daemons if daemon["name"] == name)


def test_a_daemon_can_be_paused_and_continued() -> None:
    assert _tool("signal", "kube-scheduler", "SIGSTOP").returncode == 0
    try:
        assert _daemon("kube-scheduler")["paused"] is True
    finally:
        assert _tool("signal", "kube-scheduler", "SIGCONT").returncode == 0
    eventually("the scheduler goes on", lambda: not _daemon("kube-scheduler")["paused"])


def test_a_killed_daemon_is_started_again() -> None:
    before = _daemon("csi-resizer")
    assert _tool("signal", "csi-resizer", "SIGKILL").returncode == 0
    eventually("the resizer runs again", lambda: _daemon("csi-resizer")["pid"] not in (0, before["pid"]))
    assert _daemon("csi-resizer")["starts"] == cast("int", before["starts"]) + 1


def test_the_configuration_of_prometheus_is_valid(cluster: LocalCluster, tmp_path: Path) -> None:
    file = tmp_path / "prometheus.yml"
    file.write_text(
        cluster.kubectl("get", "configmap", "prometheus", "-nmonitoring", r"-ojsonpath={.data.prometheus\.yml}")
    )
    checked = _tool("promtool", "check", "config", "--syntax-only", str(file))
    assert checked.returncode == 0, checked.stdout + checked.stderr
