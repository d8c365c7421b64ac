"""What this machine must bring along, and installing by apt what is missing."""

import os
import platform
import re
import shutil

from local_cluster import gobuild, settings, shell
from local_cluster.console import Console
from local_cluster.errors import ClusterError
from local_cluster.paths import State

PACKAGES = {  # program -> Debian package
    "etcd": "etcd-server",
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "buildah": "buildah",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "socat": "socat",
    "busybox": "busybox-static",
    "debootstrap": "debootstrap",
    "ipset": "ipset",
    "ethtool": "ethtool",
    "mkfs.xfs": "xfsprogs",
    "openssl": "openssl",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "mount": "mount",
    f"{settings.CNI_PLUGINS}/bridge": "containernetworking-plugins",
    f"{settings.CNI_PLUGINS}/portmap": "containernetworking-plugins",
}
GO_MINIMUM = (1, 26, 0)  # what CoreDNS and Prometheus ask for

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def missing_packages() -> list[str]:
    """Debian packages whose programs are not installed, sorted."""
    path = f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}"  # sbin is not on everybody's PATH
    return sorted({package for program, package in PACKAGES.items() if shutil.which(program, path=path) is None})


def parse_go_version(text: str) -> tuple[int, ...]:
    """(1, 26, 8) of "go1.26.8"; () where there is no version in it."""
    found = re.match(r"go(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part or 0) for part in found.groups()) if found else ()


def ensure(console: Console, state: State) -> None:
    """Raises ClusterError with what is missing and cannot be installed from here."""
    if platform.system() != "Linux":
        raise ClusterError("the local cluster needs Linux", "Set KUBECONFIG to a cluster of yours (kind, k3d) instead.")
    if os.geteuid() != 0:
        raise ClusterError("the local cluster needs root: it makes namespaces, mounts and cgroups",
                           "Run the same command with sudo -E, or set KUBECONFIG to a cluster of yours.")  # fmt: skip
    missing = missing_packages()
    if missing:
        _install(console, missing)
    _check_go()
    _check_filesystem(state)


def _install(console: Console, packages: list[str]) -> None:
    names = " ".join(packages)
    if shutil.which("apt-get") is None:
        raise ClusterError(f"programs are missing (Debian names: {names})", "Install them with your package manager.")
    apt_environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with console.step(f"installing {names}"):
        shell.run(["apt-get", "update"], environment=apt_environment)
        shell.run(["apt-get", "install", "-y", "--no-install-recommends", *packages], environment=apt_environment)
    still_missing = missing_packages()
    if still_missing:
        raise ClusterError(f"apt did not bring {' '.join(still_missing)}", "Install these by hand, then try again.")


def _check_go() -> None:
    wanted = ".".join(str(part) for part in GO_MINIMUM)
    found = gobuild.installed_version()
    if parse_go_version(found) < GO_MINIMUM:
        raise ClusterError(
            f"Go {wanted} or newer is needed to build Kubernetes, CoreDNS and Prometheus; found {found or 'none'}",
            "Debian's own package is too old. Install Go from its makers, put it on PATH, and try again;"
            " or set KUBECONFIG to a cluster of yours.",
        )


def _check_filesystem(state: State) -> None:
    if state.root.resolve().is_relative_to("/run"):
        raise ClusterError(f"{state.root} lies in /run, of which the cluster has one of its own",
                           "Set XDG_STATE_HOME to a folder elsewhere.")  # fmt: skip
    state.root.mkdir(parents=True, exist_ok=True)
    kind = shell.run(["stat", "--file-system", "--format=%T", state.root]).strip()
    if kind in {"overlayfs", "nfs", "tmpfs"}:
        raise ClusterError(f"{state.root} lies on {kind}, which cannot hold container layers and volumes",
                           "Set XDG_STATE_HOME to a folder on a local disk (ext4, XFS, btrfs).")  # fmt: skip
