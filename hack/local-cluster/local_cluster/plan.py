"""What process 1 of the cluster has to do: mounts, daemons with their flags, and what each waits for. Pure."""

import sys
from pathlib import Path

from local_cluster import settings
from local_cluster.host import SYSTEM_PATH
from local_cluster.paths import State
from local_cluster.supervisor import DaemonPlan, Gate, Mount, Plan

MOUNT_POINTS = (
    "/var/lib/kubelet", "/var/lib/containerd", "/var/lib/cni", "/var/log/pods", "/var/log/containers",
)  # fmt: skip
"""Folders on the host that something is mounted on inside; they stay empty outside."""

DATA_FOLDERS = ("etcd", "kubelet", "containerd", "cni", "pods-log", "volumes")

DAEMONS = (
    "etcd", "containerd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy",
    "loopcsi", "csi-provisioner", "csi-resizer",
)  # fmt: skip


def plan(state: State) -> Plan:
    """The plan for the supervisor; every path in it is absolute."""
    return Plan(
        environment={"PATH": f"{state.bin}:{SYSTEM_PATH}", "HOME": "/root", "LANG": "C.UTF-8"},
        mounts=_mounts(state),
        gates={
            "containerd": Gate(socket=settings.CONTAINERD_SOCKET, url=""),
            "storage driver": Gate(socket=settings.CSI_SOCKET, url=""),
            "api": Gate(socket="", url=f"{settings.API_URL}/readyz"),
            "node": Gate(socket="", url=f"{settings.API_URL}/api/v1/nodes/{settings.NODE_NAME}"),
        },
        ca_file=str(state.pki / "ca.crt"),
        client_certificate=str(state.pki / "admin.crt"),
        client_key=str(state.pki / "admin.key"),
        daemons=_daemons(state),
        stop_first=["kubelet", "kube-controller-manager", "kube-scheduler"],
        containerd_socket=settings.CONTAINERD_SOCKET,
        log_folder=str(state.logs),
        status_file=str(state.daemon_status),
    )


def holder_argv(state: State) -> list[str]:
    """Starts the supervisor in new mount and process namespaces; killing this process kills everything inside."""
    return [
        "nsenter", f"--net=/run/netns/{settings.NETWORK_NAMESPACE}",
        "unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc",
        sys.executable, str(state.supervisor), str(state.plan),
    ]  # fmt: skip


def _mounts(state: State) -> list[Mount]:
    def bind(name: str, target: str) -> Mount:
        return Mount(source=str(state.data / name), target=target, options=["--bind"])

    def tmpfs(target: str) -> Mount:
        return Mount(source="tmpfs", target=target, options=["-t", "tmpfs", "-o", "mode=755"])

    return [
        tmpfs("/run"),  # sockets, CNI leases, locks: fresh at each start, as after a reboot
        bind("kubelet", "/var/lib/kubelet"),
        bind("containerd", "/var/lib/containerd"),
        bind("cni", "/var/lib/cni"),
        bind("pods-log", "/var/log/pods"),
        tmpfs("/var/log/containers"),
    ]


def _daemons(state: State) -> list[DaemonPlan]:
    commands: dict[str, tuple[list[str], list[str]]] = {
        "etcd": (_etcd(state.data / "etcd"), []),
        "containerd": (["containerd", "--config", str(state.config / "containerd.toml")], []),
        "kube-apiserver": (_api_server(state), []),
        # it ends when the API server does not answer within ten seconds
        "kube-controller-manager": (_controller_manager(state), ["api"]),
        "kube-scheduler": (["kube-scheduler", *_clients(state, "kube-scheduler"), "--leader-elect=false"], ["api"]),
        "kubelet": (_kubelet(state), ["containerd"]),
        # it looks for its node with growing pauses, so being early costs seconds
        "kube-proxy": (["kube-proxy", f"--config={state.config}/kube-proxy.yaml"], ["node"]),
        "loopcsi": (_loop_driver(state), []),
        "csi-provisioner": (
            ["csi-provisioner", f"--csi-address=unix://{settings.CSI_SOCKET}",
             f"--kubeconfig={state.config}/csi-provisioner.kubeconfig", "--feature-gates=Topology=false",
             "--retry-interval-start=500ms", "--extra-create-metadata"],
            ["api", "storage driver"],
        ),
        "csi-resizer": (
            ["csi-resizer", f"--csi-address={settings.CSI_SOCKET}",
             f"--kubeconfig={state.config}/csi-resizer.kubeconfig", "--handle-volume-inuse-error=false"],
            ["api", "storage driver"],
        ),
    }  # fmt: skip
    return [DaemonPlan(name=name, argv=commands[name][0], gates=commands[name][1]) for name in DAEMONS]


def _etcd(folder: Path) -> list[str]:
    client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"  # of the namespace: neither pods nor host
    return [
        "etcd", "--name=node", f"--data-dir={folder}", f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}", f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=node={peer}", "--auto-compaction-retention=1h", "--log-level=warn", "--logger=zap",
    ]  # fmt: skip


def _api_server(state: State) -> list[str]:
    pki = state.pki
    return [
        "kube-apiserver", f"--advertise-address={settings.NODE_ADDRESS}", "--bind-address=0.0.0.0",
        "--secure-port=6443", "--etcd-servers=http://127.0.0.1:2379",
        f"--service-cluster-ip-range={settings.SERVICE_RANGE}", f"--client-ca-file={pki}/ca.crt",
        f"--tls-cert-file={pki}/apiserver.crt", f"--tls-private-key-file={pki}/apiserver.key",
        f"--kubelet-client-certificate={pki}/apiserver-kubelet-client.crt",
        f"--kubelet-client-key={pki}/apiserver-kubelet-client.key",
        f"--kubelet-certificate-authority={pki}/ca.crt", "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki}/sa.pub", f"--service-account-signing-key-file={pki}/sa.key",
        f"--requestheader-client-ca-file={pki}/front-proxy-ca.crt",
        "--requestheader-allowed-names=front-proxy-client", "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group", "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki}/front-proxy-client.crt",
        f"--proxy-client-key-file={pki}/front-proxy-client.key",
        "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
        f"--audit-policy-file={state.config}/audit-policy.yaml", f"--audit-log-path={state.audit_log}",
        "--audit-log-maxsize=100", "--audit-log-maxbackup=2",
        "--event-ttl=2h", "--profiling=false", "--endpoint-reconciler-type=lease",
    ]  # fmt: skip


def _clients(state: State, name: str) -> list[str]:
    path = f"{state.config}/{name}.kubeconfig"
    return [f"--kubeconfig={path}", f"--authentication-kubeconfig={path}", f"--authorization-kubeconfig={path}",
            "--bind-address=0.0.0.0"]  # fmt: skip


def _controller_manager(state: State) -> list[str]:
    pki = state.pki
    return [
        "kube-controller-manager", *_clients(state, "kube-controller-manager"), "--leader-elect=false",
        "--use-service-account-credentials=true", f"--service-account-private-key-file={pki}/sa.key",
        f"--root-ca-file={pki}/ca.crt", f"--cluster-signing-cert-file={pki}/ca.crt",
        f"--cluster-signing-key-file={pki}/ca.key", f"--client-ca-file={pki}/ca.crt",
        f"--requestheader-client-ca-file={pki}/front-proxy-ca.crt", f"--cluster-cidr={settings.POD_RANGE}",
        "--allocate-node-cidrs=true", f"--service-cluster-ip-range={settings.SERVICE_RANGE}",
    ]  # fmt: skip


def _kubelet(state: State) -> list[str]:
    return [
        "kubelet", f"--config={state.config}/kubelet.yaml", f"--kubeconfig={state.config}/kubelet.kubeconfig",
        f"--hostname-override={settings.NODE_NAME}", f"--node-ip={settings.NODE_ADDRESS}",
        "--root-dir=/var/lib/kubelet", "--cert-dir=/var/lib/kubelet/pki",
        "--housekeeping-interval=5s",  # how often cAdvisor looks; its default of 10 s is long beside a 2 s scrape
    ]  # fmt: skip


def _loop_driver(state: State) -> list[str]:
    return [
        "loopcsi", f"-name={settings.CSI_DRIVER}", f"-node={settings.NODE_NAME}", f"-data={state.data}/volumes",
        f"-socket={settings.CSI_SOCKET}",
        f"-registration=/var/lib/kubelet/plugins_registry/{settings.CSI_DRIVER}-reg.sock",
    ]  # fmt: skip
