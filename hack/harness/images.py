"""Our two images, in a cluster."""

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.cluster import LOCAL_CLUSTER, ROOT, Cluster
from harness.errors import CommandError, UnsuitableClusterError

BUILD = ROOT / "hack" / "images.py"
BUILD_SECONDS = 30 * 60
LOAD_SECONDS = 10 * 60
NAMES = ("operator", "service")


@dataclass(frozen=True)
class Images:
    """References that the cluster's nodes have, or can pull."""

    operator: str
    service: str


def load_images(cluster: Cluster, environment: Mapping[str, str] = os.environ) -> Images:
    """Builds the images of this source, unless they are cached, and brings them to the cluster's nodes.

    A cluster that is neither the local one nor of kind or k3d has to pull them: OPERATOR_IMAGE and SERVICE_IMAGE say
    from where.

    Raises:
        UnsuitableClusterError: nobody said from where.
        CommandError: building or loading failed.
    """
    given = [environment.get(f"{name.upper()}_IMAGE") for name in NAMES]
    if all(given):
        return Images(*(reference or "" for reference in given))
    archives = [Path(line) for line in _archives()]
    for archive in archives:
        command = _loading(cluster, str(archive))
        if command is None:
            raise UnsuitableClusterError(
                f"the context {cluster.context!r} is neither kind nor k3d, so its nodes have to pull the images: push "
                "them to a registry that they reach, and set OPERATOR_IMAGE and SERVICE_IMAGE to the references"
            )
        _run(command, LOAD_SECONDS)
    return Images(*(reference_in(archive) for archive in archives))


def reference_in(archive: Path) -> str:
    """The name of the image in a docker-archive. What was loaded is what is used, whatever changes in the source."""
    with tarfile.open(archive) as tar:
        manifest = tar.extractfile("manifest.json")
        if manifest is None:
            raise CommandError(f"{archive} is no image archive")
        tags: list[str] = json.load(manifest)[0]["RepoTags"]
    return tags[0]


def _loading(cluster: Cluster, archive: str) -> list[str] | None:
    """The command that brings an archive to the nodes; None if there is none for this kind of cluster."""
    if cluster.is_local:
        return [sys.executable, str(LOCAL_CLUSTER), "load-image", archive]
    kind, _, name = cluster.context.partition("-")
    commands = {
        "kind": ["kind", "load", "image-archive", archive, "--name", name],
        "k3d": ["k3d", "image", "import", archive, "--cluster", name],
    }
    return commands.get(kind)


def _archives() -> list[str]:
    """One line for each of `NAMES`; progress goes to standard error."""
    argv = [sys.executable, str(BUILD), "archive", *NAMES]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, timeout=BUILD_SECONDS, check=False)
    if done.returncode != 0:
        raise CommandError("the images could not be built (see above)")
    return done.stdout.split()


def _run(argv: list[str], timeout: float) -> None:
    try:
        done = subprocess.run(argv, timeout=timeout, check=False)
    except FileNotFoundError as missing:
        raise CommandError(f"{argv[0]} is not installed, and this cluster's images are loaded with it") from missing
    if done.returncode != 0:
        raise CommandError(f"{' '.join(argv)} failed (see above)")
