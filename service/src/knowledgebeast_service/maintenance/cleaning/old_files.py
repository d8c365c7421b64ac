"""Old files below a folder, found and removed without ever leaving it.

No symbolic link is followed, no other file system is entered, and a file is removed by its name in the folder that is
open: a folder that somebody exchanges for a link meanwhile leads nowhere.
"""

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system's is


@dataclass(frozen=True)
class OldFile:
    """A regular file; `folder` is the open folder that it is in, while the iteration stands there."""

    path: Path
    folder: int
    modified_at: float
    bytes: int  # what it takes of the volume

    def remove(self) -> None:
        os.unlink(self.path.name, dir_fd=self.folder)


def old_files(folder: Path, volume: Path, before: float) -> Iterator[OldFile]:
    """Regular files below `folder` that were last written before this time, on the file system of `volume`."""
    device = volume.stat().st_dev
    if not is_own_folder(folder, device):
        return
    for root, folders, files, descriptor in os.fwalk(folder, follow_symlinks=False):
        folders[:] = [one for one in folders if os.stat(one, dir_fd=descriptor, follow_symlinks=False).st_dev == device]
        for name in sorted(files):
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                if stat.S_ISREG(status.st_mode) and status.st_mtime < before:
                    yield OldFile(Path(root) / name, descriptor, status.st_mtime, status.st_blocks * BLOCK_BYTES)


def is_own_folder(path: Path, device: int) -> bool:
    """Whether it is a folder itself, no link to one, on this file system."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_dev == device


def allocated_bytes(path: Path) -> int:
    """What a file, or a folder with all it holds, takes of the volume."""
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_blocks * BLOCK_BYTES
    return sum(
        os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_blocks * BLOCK_BYTES
        for _root, _folders, files, descriptor in os.fwalk(path, follow_symlinks=False)
        for name in files
    )


def remove_entry(path: Path) -> None:
    """A file, or a folder with all it holds."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
