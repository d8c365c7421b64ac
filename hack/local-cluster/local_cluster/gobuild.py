"""The programs that are built from Go modules."""

import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from local_cluster import settings, shell
from local_cluster.artifacts import ArtifactCache, content_key
from local_cluster.paths import SOURCE

NICE = ("nice", "-n", "10")  # a build in the background must not make the machine unusable


@dataclass(frozen=True)
class GoModule:
    """One Go module of this tree and the programs to build from it (name of the binary to package path)."""

    name: str
    folder: str
    programs: Mapping[str, str]
    hint: str
    tags: str = ""
    linker_flags: str = "-s -w"
    links: tuple[str, ...] = ()

    @property
    def source(self) -> Path:
        return SOURCE / "go" / self.folder


_VERSION_VARIABLE = "k8s.io/component-base/version.gitVersion"
_VERSION_PACKAGE = "k8s.io/component-base/version"
_MAJOR, _MINOR = settings.KUBERNETES_VERSION.lstrip("v").split(".")[:2]

KUBERNETES = GoModule(
    name="kubernetes",
    folder="kubernetes",
    programs={"kubernetes": "."},
    hint="about 4 minutes on 2 cores",
    linker_flags=(
        f"-s -w -X {_VERSION_VARIABLE}={settings.KUBERNETES_VERSION}"
        f" -X {_VERSION_PACKAGE}.gitMajor={_MAJOR} -X {_VERSION_PACKAGE}.gitMinor={_MINOR}"
    ),
    links=("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"),
)
STORAGE = GoModule(
    name="storage",
    folder="storage",
    programs={
        "loopcsi": "./loopcsi",
        "csi-provisioner": "github.com/kubernetes-csi/external-provisioner/v5/cmd/csi-provisioner",
        "csi-resizer": "github.com/kubernetes-csi/external-resizer/cmd/csi-resizer",
    },
    hint="about 2 minutes",
)
# One module, so that CoreDNS and Prometheus share one version of the Kubernetes client and its compilation.
_ADDON_TAGS = "remove_all_sd,enable_kubernetes_sd"  # Prometheus without the discovery of a dozen clouds
COREDNS = GoModule("coredns", "addons", {"coredns": "./coredns"}, "about 90 seconds", _ADDON_TAGS)
PROMETHEUS = GoModule(
    name="prometheus",
    folder="addons",
    programs={
        "prometheus": "github.com/prometheus/prometheus/cmd/prometheus",
        "promtool": "github.com/prometheus/prometheus/cmd/promtool",
    },
    hint="about 2 minutes",
    tags=_ADDON_TAGS,
)
# An S3-compatible server on a folder, for the tests of backups.
S3 = GoModule("s3", "s3", {"versitygw": "github.com/versity/versitygw/cmd/versitygw"}, "about 2 minutes")
PAUSE = GoModule("pause", "pause", {"pause": "."}, "seconds")

DAEMON_MODULES = (KUBERNETES, STORAGE)
"""What runs beside the pods rather than in them."""

MODULES = (PAUSE, KUBERNETES, STORAGE, COREDNS, PROMETHEUS)


def key(module: GoModule, go_version: str) -> str:
    """Identifies the binaries: sources, the exact modules, compiler and flags."""
    files = [p for p in module.source.rglob("*") if p.suffix == ".go" or p.name in {"go.mod", "go.sum"}]
    parts = {f"file {p.relative_to(module.source)}": p.read_bytes() for p in files}
    parts["go"] = f"{go_version} {platform.machine()}".encode()
    parts["flags"] = f"{module.tags}|{module.linker_flags}|{sorted(module.programs.items())}|{module.links}".encode()
    return content_key(parts)


def environment(inherited: Mapping[str, str] = os.environ) -> dict[str, str]:
    """For the go command: static binaries, exactly the committed module versions, the installed compiler."""
    return {**inherited, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false",
            "GOWORK": "off", "GOTOOLCHAIN": "local"}  # fmt: skip


def download(module: GoModule) -> None:
    """Fetches the modules that the build needs, and only those (`go mod download` would fetch every one named)."""
    argv = ["go", "list", "-deps", f"-tags={module.tags}", *module.programs.values()]
    shell.run(argv, cwd=module.source, environment=environment(), next_step=_DOWNLOAD_HELP)


_DOWNLOAD_HELP = "The Go module proxy must be reachable (see `go env GOPROXY`); then run the same command again."


def build(module: GoModule, cache: ArtifactCache, go_version: str) -> Path:
    """Folder with the module's programs, built unless the cache has them."""

    def fill(folder: Path) -> None:
        for program, package in module.programs.items():
            argv = [*NICE, "go", "build", f"-tags={module.tags}", f"-ldflags={module.linker_flags}",
                    "-o", folder / program, package]  # fmt: skip
            shell.run(argv, cwd=module.source, environment=environment())
        for link in module.links:
            (folder / link).symlink_to(next(iter(module.programs)))

    found = cache.find(module.name, key(module, go_version))
    return found or cache.publish(module.name, key(module, go_version), fill)


def installed_version() -> str:
    """What `go env GOVERSION` says, for example "go1.26.8"; "" without Go."""
    try:
        done = subprocess.run(
            ["go", "env", "GOVERSION"], capture_output=True, text=True, check=False, env=environment()
        )
    except FileNotFoundError:
        return ""
    return done.stdout.strip()
