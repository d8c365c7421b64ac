"""Builds the images of the operator and of the service, once per content, and prints their sizes.

With buildah on the machine (as root), images are kept as archives in the cache and the local cluster loads them from
there; with docker they go into its store. Without --engine, buildah is taken where it can be used.

Examples:
    python hack/images.py build                     both images
    python hack/images.py build operator            one of them
    python hack/images.py build service-cuda        the service with torch, for a GPU; not built unless named
    python hack/images.py build --engine docker     with docker, on python:3.11-slim-bookworm
    python hack/images.py reference service         the name of the image of this source, for `kubectl set image`
    python hack/images.py archive service           its archive in the cache
"""

import argparse
import json
import os
import shutil
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "hack" / "local-cluster"))

from local_cluster import host, paths, shell  # noqa: E402
from local_cluster.artifacts import ArtifactCache, content_key  # noqa: E402
from local_cluster.buildah import Buildah  # noqa: E402
from local_cluster.console import Console, table  # noqa: E402
from local_cluster.errors import ClusterError  # noqa: E402

DOCKER_BASE = "python:3.11-slim-bookworm"


@dataclass(frozen=True)
class Recipe:
    """What an image is made of, and what it may add to its base: more is an error, so that nobody ships a compiler
    or torch by accident.
    """

    dockerfile: str
    limit_bytes: int
    inputs: tuple[str, ...]
    arguments: tuple[str, ...] = ()


_SERVICE_INPUTS = ("pyproject.toml", "uv.lock", "operator/pyproject.toml", "service/pyproject.toml", "service/src",
                   "service/tools")  # fmt: skip
RECIPES = {
    "operator": Recipe("Dockerfile.operator", 250_000_000, (
        "pyproject.toml", "uv.lock", "operator/pyproject.toml", "operator/src", "service/pyproject.toml")),
    "service": Recipe("Dockerfile.service", 1_200_000_000, _SERVICE_INPUTS),
    "service-cuda": Recipe("Dockerfile.service", 8_000_000_000, _SERVICE_INPUTS, ("VARIANT=cuda",)),
}  # fmt: skip
DEFAULT = ("operator", "service")


class Engine(Protocol):
    """What builds and saves images."""

    def base(self) -> str:
        """The reference of the base image, which exists afterwards."""
        ...

    def build(self, dockerfile: Path, arguments: Sequence[str], tags: Sequence[str]) -> None:
        """Build with arguments NAME=value."""
        ...

    def save(self, reference: str, archive: Path) -> None: ...


@dataclass(frozen=True)
class BuildahEngine:
    """buildah with the project's own storage; the base is made from the distribution's packages."""

    buildah: Buildah

    def base(self) -> str:
        cluster = ROOT / "hack" / "local-cluster" / "cluster.py"
        return shell.run([sys.executable, cluster, "base-image"]).strip().splitlines()[-1]

    def build(self, dockerfile: Path, arguments: Sequence[str], tags: Sequence[str]) -> None:
        flags = _flags(arguments, tags)
        argv = self.buildah.argv(
            ["build", "--layers", "--quiet", "--ignorefile", ".dockerignore", *flags,
             "--file", str(dockerfile), str(ROOT)]
        )  # fmt: skip
        shell.run(argv, cwd=ROOT, environment=self.buildah.environment())

    def save(self, reference: str, archive: Path) -> None:
        self.buildah.run("push", "--quiet", reference, f"docker-archive:{archive}:{reference}")


@dataclass(frozen=True)
class DockerEngine:
    """A docker daemon."""

    def base(self) -> str:
        return os.environ.get("BASE_IMAGE", DOCKER_BASE)

    def build(self, dockerfile: Path, arguments: Sequence[str], tags: Sequence[str]) -> None:
        flags = _flags(arguments, tags)
        shell.run(["docker", "build", "--quiet", *flags, "--file", dockerfile, ROOT],
                  environment={**os.environ, "DOCKER_BUILDKIT": "1"})  # fmt: skip

    def save(self, reference: str, archive: Path) -> None:
        shell.run(["docker", "save", "--output", archive, reference])


def _flags(arguments: Sequence[str], tags: Sequence[str]) -> list[str]:
    return [
        *(flag for one in arguments for flag in ("--build-arg", one)),
        *(flag for tag in tags for flag in ("--tag", tag)),
    ]


@dataclass(frozen=True)
class Image:
    """One of our images: its reference names its content, so another source is another image."""

    name: str
    key: str

    @property
    def reference(self) -> str:
        return f"localhost/knowledgebeast-{self.name}:{self.key}"

    @property
    def latest(self) -> str:
        """What the manifests name; always the image built last."""
        return f"localhost/knowledgebeast-{self.name}:dev"

    @property
    def artifact(self) -> str:
        return f"image-knowledgebeast-{self.name}"


def describe(name: str, base: str) -> Image:
    """The image of the source as it is now. Raises ClusterError for a name that is not ours."""
    if name not in RECIPES:
        raise ClusterError(f"there is no image {name}", f"choose one of: {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    parts = {"base": base.encode(), "dockerfile": (ROOT / recipe.dockerfile).read_bytes()}
    if recipe.arguments:
        parts["arguments"] = " ".join(recipe.arguments).encode()
    for entry in recipe.inputs:
        path = ROOT / entry
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        parts |= {str(p.relative_to(ROOT)): p.read_bytes() for p in files if "__pycache__" not in p.parts}
    return Image(name, content_key(parts))


def build(image: Image, base: str, engine: Engine, cache: ArtifactCache, console: Console) -> Path:
    """The image's archive: from the cache, or built now."""
    if found := cache.find(image.artifact, image.key):
        return found / "image.tar"

    def fill(folder: Path) -> None:
        recipe = RECIPES[image.name]
        arguments = [f"BASE_IMAGE={base}", *recipe.arguments]
        engine.build(ROOT / recipe.dockerfile, arguments, [image.reference, image.latest])
        engine.save(image.reference, folder / "image.tar")

    with console.step(f"image {image.name}"):
        return cache.publish(image.artifact, image.key, fill) / "image.tar"


def added_bytes(archive: Path) -> int:
    """Size of what the image adds to its base, uncompressed. The final stages add nothing but COPY layers.

    A docker-archive lists its layers from the base upwards; the base of our images is every layer before the first
    COPY instruction of the Dockerfile, which the image's history names.
    """
    with tarfile.open(archive) as tar:
        manifest = json.loads(_member(tar, "manifest.json"))[0]
        history = [h for h in json.loads(_member(tar, manifest["Config"]))["history"] if not h.get("empty_layer")]
        ours = [
            i
            for i, h in enumerate(history)
            if "COPY" in h.get("created_by", "") and "/opt/knowledgebeast" in h["created_by"]
        ]
        first = min(ours, default=len(history))
        return sum(_layer_size(tar, layer) for layer in manifest["Layers"][first:])


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    stream = tar.extractfile(name)
    if stream is None:
        raise ClusterError(f"the image archive {tar.name} has no {name}", "remove it and build again")
    return stream.read()


def _layer_size(tar: tarfile.TarFile, name: str) -> int:
    """Members may be links to one another where two layers are equal."""
    member = tar.getmember(name)
    return member.size or tar.getmember(str(Path(name).parent / member.linkname)).size


def choose_engine(wanted: str) -> Engine:
    """The engine by name, or the one that works here. Raises ClusterError with what to install."""
    has_buildah = shutil.which("buildah") is not None and os.geteuid() == 0
    if wanted == "buildah" or (wanted == "auto" and has_buildah):
        return BuildahEngine(Buildah(paths.cache().buildah_root))
    if wanted == "docker" or shell.succeeds(["docker", "info"]):
        return DockerEngine()
    if os.geteuid() == 0 and shutil.which("apt-get"):
        host.ensure(Console(), paths.state())
        return choose_engine("buildah")
    raise ClusterError("no engine to build images with", "install docker, or run as root on Debian for buildah")


def main(arguments: list[str]) -> int:
    """The command line. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["build", "reference", "archive"])
    parser.add_argument("names", nargs="*", metavar="|".join(RECIPES), help="default: operator and service")
    parser.add_argument("--engine", choices=["auto", "buildah", "docker"], default="auto")
    options = parser.parse_args(arguments)
    console, cache = Console(), ArtifactCache(paths.cache().artifacts)
    engine = choose_engine(options.engine)
    base = engine.base()
    rows: list[tuple[str, str, str, str]] = []
    for name in options.names or DEFAULT:
        image = describe(name, base)
        if options.command == "reference":
            print(image.reference)
            continue
        archive = build(image, base, engine, cache, console)
        if options.command == "archive":
            print(archive)
            continue
        added = added_bytes(archive)
        rows.append((name, image.reference, f"{added / 1e6:.0f} MB", f"{RECIPES[name].limit_bytes / 1e6:.0f} MB"))
        if added > RECIPES[name].limit_bytes:
            raise ClusterError(
                f"image {name} adds {added / 1e6:.0f} MB to its base", "find what came in: buildah images"
            )
    if rows:
        print(table(("image", "reference", "over the base", "limit"), rows))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ClusterError as error:
        print(
            f"images: {error.message}" + (f"\nwhat to do: {error.next_step}" if error.next_step else ""),
            file=sys.stderr,
        )
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
