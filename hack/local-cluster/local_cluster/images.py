"""Container images of the cluster's own pods: FROM scratch and one static program each."""

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from local_cluster import shell
from local_cluster.artifacts import ArtifactCache, content_key
from local_cluster.buildah import Buildah
from local_cluster.paths import SOURCE


@dataclass(frozen=True)
class OwnImage:
    """An image archive in the cache; the tag is the content key, so a changed image is another image."""

    name: str
    archive: Path
    reference: str


def build(name: str, program: Path, cache: ArtifactCache, buildah: Buildah) -> tuple[OwnImage, bool]:
    """The image of images/NAME/Dockerfile around `program`, and whether it had to be built."""
    dockerfile = SOURCE / "images" / name / "Dockerfile"
    key = content_key({"dockerfile": dockerfile.read_bytes(), "program": _digest(program)})
    reference = f"localhost/knowledgebeast/{name}:{key}"

    def fill(folder: Path) -> None:
        context = folder / "context"
        context.mkdir()
        try:
            os.link(program, context / program.name)
        except OSError:  # another file system
            shutil.copy2(program, context / program.name)
        buildah.run("build", "--quiet", "--file", str(dockerfile), "--tag", reference, str(context))
        buildah.run("push", "--quiet", reference, f"docker-archive:{folder / 'image.tar'}:{reference}")
        buildah.run("rmi", reference)
        shutil.rmtree(context)

    found = cache.find(f"image-{name}", key)
    folder = found or cache.publish(f"image-{name}", key, fill)
    return OwnImage(name, folder / "image.tar", reference), found is None


def _digest(program: Path) -> bytes:
    """Of a program in the cache its folder's name says it all; another one is read."""
    if program.parent.parent.name == "artifacts":
        return f"{program.parent.name}/{program.name}".encode()
    with program.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def static_busybox() -> Path:
    """The busybox of this machine, for the toolbox image. Raises ClusterError if there is none."""
    return Path(shell.run(["which", "busybox"]).strip()).resolve()
