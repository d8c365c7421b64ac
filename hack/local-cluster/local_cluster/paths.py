"""Where things lie: a cache that any clone shares, and the state of this machine's one cluster."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent
"""The folder hack/local-cluster of this source tree."""


@dataclass(frozen=True)
class Cache:
    """Artifacts by content; every clone reuses them, and deleting the folder only costs the time to build again."""

    root: Path

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def buildah_root(self) -> Path:
        return self.root / "buildah"

    @property
    def build_lock(self) -> Path:
        return self.root / "build.lock"


@dataclass(frozen=True)
class State:
    """The machine-wide cluster: kept data, keys, rendered configuration, logs."""

    root: Path

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def record(self) -> Path:
        return self.root / "record.json"

    @property
    def images(self) -> Path:
        """References of the cluster's own images by name, as JSON."""
        return self.root / "images.json"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    @property
    def config(self) -> Path:
        return self.root / "config"

    @property
    def manifests(self) -> Path:
        return self.root / "manifests"

    @property
    def bin(self) -> Path:
        return self.root / "bin"

    @property
    def logs(self) -> Path:
        return self.root / "log"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def made_folders(self) -> Path:
        return self.root / "made-folders"

    @property
    def sysctls(self) -> Path:
        return self.root / "sysctls.json"

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def audit_log(self) -> Path:
        return self.logs / "audit.log"

    @property
    def supervisor(self) -> Path:
        return self.run / "supervisor.py"

    @property
    def plan(self) -> Path:
        return self.run / "plan.json"

    @property
    def daemon_status(self) -> Path:
        return self.run / "daemons.json"

    @property
    def holder(self) -> Path:
        return self.run / "holder.json"


def cache(environment: Mapping[str, str] = os.environ) -> Cache:
    """The cache folder, by the XDG base directory specification."""
    return Cache(_base(environment, "XDG_CACHE_HOME", ".cache") / "knowledgebeast")


def state(environment: Mapping[str, str] = os.environ) -> State:
    """The state folder, by the XDG base directory specification."""
    return State(_base(environment, "XDG_STATE_HOME", ".local/state") / "knowledgebeast" / "local-cluster")


def _base(environment: Mapping[str, str], variable: str, default: str) -> Path:
    value = environment.get(variable, "")
    # the specification: a relative path is invalid and to be ignored
    return Path(value) if value.startswith("/") else Path(environment.get("HOME", "/root")) / default
