"""Bringing images into the cluster's containerd, unless the very same ones are there."""

import json
import tarfile
import tempfile
from pathlib import Path
from typing import TypedDict, cast

from local_cluster import api, namespaces
from local_cluster.buildah import Buildah
from local_cluster.console import Console
from local_cluster.errors import ClusterError
from local_cluster.paths import State

CTR = ("ctr", "--namespace", "k8s.io")


_ARCHIVE_HELP = "Make one with `buildah push NAME docker-archive:FILE:NAME` or `docker save`."


class ArchiveImage(TypedDict):
    """One entry of a docker-archive's manifest.json."""

    Config: str
    RepoTags: list[str] | None


def archive_images(archive: Path) -> dict[str, str]:
    """Reference to configuration digest ("sha256:...") of every image in a docker-archive or OCI archive."""
    try:
        with tarfile.open(archive, "r:") as tar:  # as both tools write it: not compressed
            names = set(tar.getnames())
            if "manifest.json" in names:
                manifest = cast("list[ArchiveImage]", json.loads(_member(tar, "manifest.json")))
                return {tag: _digest(entry["Config"]) for entry in manifest for tag in entry["RepoTags"] or []}
            return _oci_images(tar)
    except (tarfile.TarError, KeyError, OSError) as error:
        raise ClusterError(f"{archive} is no image archive: {error}", _ARCHIVE_HELP) from error


def _oci_images(tar: tarfile.TarFile) -> dict[str, str]:
    found: dict[str, str] = {}
    index = cast("api.Json", json.loads(_member(tar, "index.json")))
    for entry in api.items(api.field(index, "manifests")):
        name = api.field(entry, "annotations", "org.opencontainers.image.ref.name")
        blob = "blobs/" + str(api.field(entry, "digest")).replace(":", "/")
        manifest = cast("api.Json", json.loads(_member(tar, blob)))
        found[str(name)] = str(api.field(manifest, "config", "digest"))
    return found


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    stream = tar.extractfile(name)
    if stream is None:
        raise KeyError(name)
    with stream:
        return stream.read()


def _digest(config: str) -> str:
    """Of "HEX.json" (docker-archive) or "blobs/sha256/HEX" (docker save of today)."""
    return "sha256:" + Path(config).name.removesuffix(".json")


def containerd_missing(state: State) -> str:
    """Empty once containerd answers."""
    done = namespaces.run(state, ["ctr", "version"], check=False)
    return "" if done.returncode == 0 else "containerd does not answer"


def present(state: State, reference: str) -> str:
    """The configuration digest of the image of that name in the cluster; "" if there is none."""
    listing = namespaces.run(state, [*CTR, "images", "ls", f"name=={reference}"]).stdout.splitlines()
    found = next((line.split() for line in listing[1:] if line.split()[0] == reference), None)
    if found is None:
        return ""
    manifest = namespaces.run(state, [*CTR, "content", "get", found[2]], check=False).stdout
    return str(api.field(json.loads(manifest), "config", "digest")) if manifest else ""


def load_archive(console: Console, state: State, archive: Path) -> None:
    """Imports the archive unless every image in it is present."""
    images = archive_images(archive)
    if not images:
        raise ClusterError(f"the image in {archive} has no name",
                           "Write it with one: `buildah push NAME docker-archive:FILE:NAME`.")  # fmt: skip
    if all(present(state, name) == digest for name, digest in images.items()):
        console.say(f"image {', '.join(images)}: already in the cluster")
        return
    with console.step(f"image {', '.join(images)}: importing"), archive.open("rb") as stream:
        namespaces.run(state, [*CTR, "images", "import", "-"], stdin=stream)


def qualified(reference: str) -> str:
    """The full name under which buildah keeps an image: "app" is "localhost/app:latest"."""
    first, _, rest = reference.partition("/")
    has_registry = bool(rest) and (first == "localhost" or "." in first or ":" in first)
    name = reference if has_registry else f"localhost/{reference}"
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def load_from_storage(console: Console, state: State, buildah: Buildah, reference: str) -> None:
    """Imports an image out of the project's own buildah storage, without asking for it when it is the same."""
    try:
        identifier = buildah.run("inspect", "--type", "image", "--format", "{{.FromImageID}}", reference).strip()
    except ClusterError as error:
        raise ClusterError(f"{reference} is neither a file nor an image in the project's buildah storage",
                           "See `cluster.py buildah -- images` for what there is.") from error  # fmt: skip
    name = qualified(reference)
    if present(state, name) == f"sha256:{identifier}":
        console.say(f"image {name}: already in the cluster")
        return
    with tempfile.TemporaryDirectory(dir=buildah.root) as scratch:
        archive = Path(scratch) / "image.tar"
        with console.step(f"image {name}: exporting"):
            buildah.run("push", "--quiet", name, f"docker-archive:{archive}:{name}")
        load_archive(console, state, archive)
