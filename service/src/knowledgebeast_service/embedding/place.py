"""Which model folder is loaded, where the models lie on a volume that is filled from a copy in the image.

On the volume a damaged file can be repaired in place, for every process that shares it. What is there stays there: an
image with other weights of the same name does not exchange the model that has built the index.
"""

import fcntl
import logging
import os
import shutil
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from knowledgebeast_service.embedding.manifest import (
    MANIFEST_NAME,
    Manifest,
    find_model_folder,
    read_manifest,
)
from knowledgebeast_service.errors import ModelUnavailableError

log = logging.getLogger(__name__)

LOCK_NAME = ".lock"
FILE_MODE = 0o644
LEAST_FREE = 0.2
"""Of the volume, after a model has been put there: it is the database's, and a full one loses writes."""


def same_model(one: str, other: str) -> bool:
    """The names of a model with and without its publisher mean the same."""
    return one.rpartition("/")[2] == other.rpartition("/")[2]


def folder_on_volume(root: Path, copy: Path, wanted: str) -> Path:
    """The folder of the wanted model under `root`, filled from `copy` when it is absent; damaged ones are not judged.

    Where the volume cannot take it, the copy itself.

    Raises:
        ModelUnavailableError: neither holds the model.
    """
    held = [folder for folder, manifest in models_in(root) if same_model(manifest.model, wanted)]
    if len(held) == 1:
        return held[0]
    original = find_model_folder(copy)
    manifest = read_manifest(original)
    if not same_model(manifest.model, wanted):
        return original  # whoever loads it says that it is another one
    folder = root / manifest.model_hash
    if folder.exists():
        return folder
    try:
        _fill(root, original, manifest)
    except OSError as error:
        log.warning("the model is loaded from %s, for %s cannot take it: %s", original, root, error)
        return original
    return folder


def models_in(root: Path) -> Iterator[tuple[Path, Manifest]]:
    """Folders with a manifest that can be read: `root` and its children."""
    for path in sorted((*root.glob(MANIFEST_NAME), *root.glob(f"[!.]*/{MANIFEST_NAME}"))):
        try:
            yield path.parent, read_manifest(path.parent)
        except ModelUnavailableError:
            continue


def name_of_model(places: Iterable[Path | None], model_hash: str) -> str:
    """What the model with this hash is called, from the folders in these places; empty where none holds it."""
    found = (manifest for place in places if place is not None for _, manifest in models_in(place))
    return next((manifest.model for manifest in found if manifest.model_hash == model_hash), "")


def _fill(root: Path, original: Path, manifest: Manifest) -> None:
    """Put the model there, whole or not at all. Replicas start at the same time: one fills, the others find it done.

    Raises:
        OSError: the volume is read-only, broken, or has no room.
    """
    folder, scratch = root / manifest.model_hash, root / f".{manifest.model_hash}.tmp"
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root):
        if folder.exists():
            return
        shutil.rmtree(scratch, ignore_errors=True)
        _require_room(root, original, manifest)
        scratch.mkdir()
        for name in (*manifest.files, MANIFEST_NAME):
            _copy(original / name, scratch / name)
        _sync(scratch)
        scratch.rename(folder)
        _sync(root)
    log.info("the model %s was copied to %s", manifest.model, folder)


def _require_room(root: Path, original: Path, manifest: Manifest) -> None:
    needed = sum((original / name).stat().st_size for name in manifest.files)
    usage = shutil.disk_usage(root)
    if usage.free - needed < LEAST_FREE * usage.total:
        raise OSError(
            f"{usage.free / 1e6:.0f} of {usage.total / 1e6:.0f} MB are free, {needed / 1e6:.0f} MB are needed and "
            f"{LEAST_FREE:.0%} stay free"
        )


@contextmanager
def _locked(root: Path) -> Generator[None]:
    descriptor = os.open(root / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as reading, target.open("wb") as writing:
        shutil.copyfileobj(reading, writing, 1 << 20)
        writing.flush()
        os.fsync(writing.fileno())
    target.chmod(FILE_MODE)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
