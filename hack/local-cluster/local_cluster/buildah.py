"""buildah with a storage of its own, so that it neither finds nor disturbs images of the machine's user."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from local_cluster import shell
from local_cluster.errors import ClusterError

CA_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
BUILD_COMMANDS = {"build", "bud"}
RUN_ROOT = Path("/run/knowledgebeast/buildah")  # volatile by definition: locks and mounts of running builds


@dataclass(frozen=True)
class Buildah:
    """Runs buildah in a mount namespace of its own: nothing stays mounted, whatever way it ends."""

    root: Path

    def argv(self, arguments: Sequence[str]) -> list[str]:
        """The whole command line. A build sees the machine's certificates, or pip could not reach a mirror
        behind a proxy of the machine's owner; they do not become part of the image.
        """
        if not arguments:
            raise ClusterError("buildah needs a command", "For example: cluster.py buildah -- images")
        command = ["unshare", "--mount", "--propagation", "private", "buildah", "--root", str(self.root),
                   "--runroot", str(RUN_ROOT), "--storage-driver", "overlay", arguments[0]]  # fmt: skip
        if arguments[0] in BUILD_COMMANDS:
            command += ["--isolation", "chroot", *_certificates()]
        return [*command, *arguments[1:]]

    def run(self, *arguments: str) -> str:
        self.root.mkdir(parents=True, exist_ok=True)
        return shell.run(self.argv(arguments), environment=self.environment())

    def environment(self) -> dict[str, str]:
        return {**os.environ, "BUILDAH_ISOLATION": "chroot"}


def _certificates() -> list[str]:
    bundle = next((path for path in CA_BUNDLES if Path(path).exists()), None)
    return ["--volume", f"{bundle}:{CA_BUNDLES[0]}:ro"] if bundle else []
