"""Configuration files and manifests: the templates of this tree with the cluster's values put in."""

import string
from collections.abc import Mapping
from pathlib import Path

from local_cluster import settings
from local_cluster.paths import SOURCE, State


class _Template(string.Template):
    """`@{name}`, because `$` has a meaning in Prometheus' and the shell's own language."""

    delimiter = "@"


def values(state: State, images: Mapping[str, str]) -> dict[str, str]:
    """What templates may name: every text in `settings`, the folders, and `image_NAME` for each image reference."""
    fixed = {name.lower(): value for name, value in vars(settings).items() if isinstance(value, str)}
    folders = {"pki": str(state.pki), "config": str(state.config)}
    return {**fixed, **folders, **{f"image_{name}": reference for name, reference in images.items()}}


def render(text: str, known: Mapping[str, str]) -> str:
    """Raises KeyError for a name that is not known, ValueError for a lone `@`."""
    return _Template(text).substitute(known)


def render_folder(kind: str, known: Mapping[str, str]) -> dict[str, str]:
    """File name to content of all templates in hack/local-cluster/KIND."""
    files = sorted((SOURCE / kind).iterdir())
    return {file.name: render(file.read_text(), known) for file in files}


def write(folder: Path, files: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(content)
