"""Everything that has to be built before a cluster can start, in the order that wastes least time."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from local_cluster import gobuild, images, locks
from local_cluster.artifacts import ArtifactCache
from local_cluster.buildah import Buildah
from local_cluster.console import Console, table
from local_cluster.gobuild import GoModule
from local_cluster.images import OwnImage
from local_cluster.paths import Cache


@dataclass(frozen=True)
class Built:
    """Folders of programs by module name, and image archives by image name."""

    programs: dict[str, Path]
    images: dict[str, OwnImage]

    def references(self) -> dict[str, str]:
        return {name: image.reference for name, image in self.images.items()}


def build_all(console: Console, cache: Cache) -> Built:
    """Builds what the cache does not have. Downloads of all modules run beside the compilation of the first ones; the
    compilations run one after the other, since one alone uses every core.
    """
    with locks.exclusive(console, cache.build_lock, "building"):
        artifacts = ArtifactCache(cache.artifacts)
        version = gobuild.installed_version()
        wanted = [m for m in gobuild.MODULES if artifacts.find(m.name, gobuild.key(m, version)) is None]
        with ThreadPoolExecutor(max_workers=max(len(wanted), 1)) as pool:
            downloads = {m.name: pool.submit(_timed_download, m) for m in wanted}
            programs = {m.name: _program(console, m, artifacts, version, downloads.get(m.name))
                        for m in gobuild.MODULES}  # fmt: skip
        sources = {
            "pause": programs["pause"] / "pause",
            "coredns": programs["coredns"] / "coredns",
            "prometheus": programs["prometheus"] / "prometheus",
            "toolbox": images.static_busybox(),
        }
        buildah = Buildah(cache.buildah_root)
        return Built(programs, {name: _image(console, name, sources[name], artifacts, buildah) for name in sources})


def build_program(console: Console, cache: Cache, module: GoModule) -> Path:
    """Folder with the programs of one module."""
    with locks.exclusive(console, cache.build_lock, "building"):
        return gobuild.build(module, ArtifactCache(cache.artifacts), gobuild.installed_version())


def report(console: Console) -> str:
    """The table of steps and times."""
    rows = [(step, f"{seconds:7.1f}", outcome) for step, seconds, outcome in console.timings]
    rows.append(("total", f"{time.monotonic() - console.started:7.1f}", ""))
    return table(("step", "seconds", "result"), rows)


def _timed_download(module: GoModule) -> float:
    begun = time.monotonic()
    gobuild.download(module)
    return time.monotonic() - begun


def _program(
    console: Console, module: GoModule, artifacts: ArtifactCache, version: str, download: Future[float] | None
) -> Path:
    if download is None:
        console.note(f"build {module.name}", 0.0, "cached")
        return gobuild.build(module, artifacts, version)
    if not download.done():
        with console.step(f"download {module.name}"):
            download.result()
    console.note(f"download {module.name} (beside other work)", download.result(), "done")
    with console.step(f"build {module.name}", module.hint):
        return gobuild.build(module, artifacts, version)


def _image(console: Console, name: str, program: Path, artifacts: ArtifactCache, buildah: Buildah) -> OwnImage:
    begun = time.monotonic()
    image, is_new = images.build(name, program, artifacts, buildah)
    console.note(f"image {name}", time.monotonic() - begun, "done" if is_new else "cached")
    return image
