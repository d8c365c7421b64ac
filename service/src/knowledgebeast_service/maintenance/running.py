"""Which tasks run on a volume now: each holds a lock on a file of its own, and a killed one no longer does."""

import contextlib
import fcntl
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

from knowledgebeast_service.maintenance.restore.marker import Marker

FOLDER = "maintenance"
PREFIX = ".running-"


@contextmanager
def announced(data_dir: Path, task: str, attempt: str) -> Generator[None]:
    """Let others see that the task runs; one that cannot be announced, on a full disk, runs all the same."""
    path = data_dir / FOLDER / f"{PREFIX}{task}-{attempt}"
    descriptor: int | None = None
    with contextlib.suppress(OSError):
        path.parent.mkdir(exist_ok=True)  # not its parents: a folder that is not there is for the task to find out
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        os.utime(descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield
    finally:
        if descriptor is not None:
            path.unlink(missing_ok=True)
            os.close(descriptor)


def oldest_start(data_dir: Path) -> float | None:
    """When the oldest task that has not ended began (Unix time); None where none runs.

    A repair that was killed has not ended: its next run goes on with what it has left on the volume.
    """
    marker = Marker.read(data_dir)
    starts = [path.stat().st_mtime for path in marks(data_dir) if _is_held(path)]
    return min([*starts, *([marker.started_at] if marker is not None else [])], default=None)


def marks(data_dir: Path) -> Iterator[Path]:
    """The files of tasks that run, and of those that were killed."""
    return (data_dir / FOLDER).glob(f"{PREFIX}*")


def _is_held(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False  # it has ended meanwhile
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
