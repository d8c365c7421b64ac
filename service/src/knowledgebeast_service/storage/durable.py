"""Changes to files that are on disk when the call returns, and whole or absent after a crash at any instant.

A rename is atomic but durable only once its folder is synced, and it may reach the disk before the content that it
names: so content is synced first, then renamed, then the folder is synced. Every function may be called again after a
crash in the middle of it.
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

FILE_MODE = 0o640  # as the database: readable by its group, not by everyone


def sync_file(path: Path) -> None:
    """What was written to the file by anyone is on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Names made, changed or removed in the folder are on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make the folder and its missing parents."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for one in reversed(missing):
        sync_folder(one.parent)


def write_file(path: Path, content: bytes) -> None:
    """Put `content` in place of the file, whose folder exists."""
    scratch = scratch_path(path)
    with open_anew(scratch) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    publish(scratch, path)


def copy_file(source: Path, target: Path) -> None:
    """Put a copy of a file that nobody writes to in place of `target`, on any file system."""
    scratch = scratch_path(target)
    with source.open("rb") as reading, open_anew(scratch) as writing:
        shutil.copyfileobj(reading, writing, 1024 * 1024)
        writing.flush()
        os.fsync(writing.fileno())
    publish(scratch, target)


def publish(scratch: Path, path: Path) -> None:
    """Give a file or folder, already synced, its final name on the same file system."""
    scratch.rename(path)
    sync_folder(path.parent)
    if scratch.parent != path.parent:
        sync_folder(scratch.parent)


def move_files(paths: Iterable[Path], folder: Path) -> list[Path]:
    """Move those of the files that exist into `folder` (same file system); returns where they are now.

    The set moves file by file: after a crash the rest is moved by the next call, so nothing may use it in between.
    """
    make_folder(folder)
    moved: list[Path] = []
    parents: set[Path] = set()
    for path in paths:
        target = folder / path.name
        if path.exists():
            path.rename(target)
            moved.append(target)
            parents.add(path.parent)
    for one in (folder, *sorted(parents)):
        sync_folder(one)
    return moved


def remove_file(path: Path) -> None:
    """Remove the file if it is there."""
    if path.exists():
        path.unlink(missing_ok=True)
        sync_folder(path.parent)


def remove_tree(folder: Path) -> None:
    """Remove a folder with all it holds; after a crash a part of it may be left."""
    if folder.exists():
        shutil.rmtree(folder)
        sync_folder(folder.parent)


def scratch_path(path: Path) -> Path:
    """Where `write_file` and `copy_file` prepare the content: hidden, beside it, and overwritten by the next call."""
    return path.with_name(f".{path.name}.tmp")


def open_anew(path: Path) -> BinaryIO:
    """The file, emptied, for writing, with the database's mode."""
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE), "wb")  # noqa: PTH123
