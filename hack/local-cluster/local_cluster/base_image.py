"""The base of the project's own images where no registry is reachable: Debian with Python, made by debootstrap."""

import re
import shutil
from pathlib import Path

from local_cluster import shell
from local_cluster.artifacts import ArtifactCache, content_key
from local_cluster.buildah import Buildah
from local_cluster.console import Console
from local_cluster.errors import ClusterError
from local_cluster.paths import SOURCE, Cache

SUITE = "bookworm"  # Debian 12: Python 3.11
PACKAGES = ("python3", "python3-venv", "ca-certificates")
REFERENCE = f"localhost/python-base:{SUITE}"
NOT_NEEDED = ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale",
              "var/log")  # fmt: skip
APT_SOURCES = Path("/etc/apt")


def mirror(sources: dict[str, str], suite: str) -> str:
    """The first address that this machine's apt sources name for the suite (both formats of sources.list(5)).

    Raises ClusterError if they name none: no address is written down here, since every site has its own mirror.
    """
    for name in sorted(sources):
        text = sources[name]
        if name.endswith(".sources"):
            for stanza in re.split(r"\n\s*\n", text):
                fields = dict(re.findall(r"^(\w[\w-]*):[ \t]*(.+)$", stanza, re.MULTILINE))
                if suite in fields.get("Suites", "").split() and "deb" in fields.get("Types", "").split():
                    return fields["URIs"].split()[0]
        for line in text.splitlines():
            found = re.match(r"deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)\s", f"{line} ")
            if found and found[2] == suite:
                return found[1]
    raise ClusterError(
        f"this machine's apt sources name no mirror for Debian {suite}",
        "Build on Debian 12, or give the Dockerfiles another base: --build-arg BASE_IMAGE=...",
    )


def _apt_sources() -> dict[str, str]:
    files = [APT_SOURCES / "sources.list", *sorted((APT_SOURCES / "sources.list.d").glob("*"))]
    return {file.name: file.read_text() for file in files if file.suffix in {".list", ".sources"} and file.is_file()}


def ensure(console: Console, cache: Cache) -> str:
    """The reference of the base image in the project's buildah storage; made unless cached."""
    dockerfile = SOURCE / "images" / "python-base" / "Dockerfile"
    key = content_key({"packages": repr((SUITE, PACKAGES, NOT_NEEDED)).encode(), "dockerfile": dockerfile.read_bytes()})
    buildah = Buildah(cache.buildah_root)
    tagged = f"{REFERENCE}-{key}"
    if buildah.run("images", "--quiet", "--filter", f"reference={tagged}").strip():
        buildah.run("tag", tagged, REFERENCE)
        return REFERENCE

    def fill(folder: Path) -> None:
        root = folder / "root"
        address = mirror(_apt_sources(), SUITE)
        with console.step(f"debootstrap {SUITE} with {', '.join(PACKAGES)}", "about 40 seconds"):
            shell.run(["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, root, address])
        for unwanted in NOT_NEEDED:
            shutil.rmtree(root / unwanted, ignore_errors=True)
            (root / unwanted).mkdir(parents=True, exist_ok=True)
        with console.step(f"image {REFERENCE}"):
            buildah.run("build", "--quiet", "--file", str(dockerfile), "--tag", tagged, "--tag", REFERENCE, str(root))
        shutil.rmtree(root)
        (folder / "reference").write_text(tagged)

    ArtifactCache(cache.artifacts).publish("python-base", key, fill)
    return REFERENCE
