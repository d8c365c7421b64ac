"""5A: log files older than 7 days are compressed, compressed ones older than 30 days removed; one in use is left."""

import fcntl
import gzip
import os
import re
import shutil
import signal
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from knowledgebeast_service.maintenance.cleaning.old_files import OldFile, old_files
from knowledgebeast_service.maintenance.cleaning.sweep import Sweep
from knowledgebeast_service.storage.durable import open_anew, publish, scratch_path

DAY_SECONDS = 86_400.0
COMPRESS_AFTER_DAYS = 7
REMOVE_AFTER_DAYS = 30
LOG = re.compile(r"\.log(\.\d+)?$")
COMPRESSED = ".gz"


def clean_logs(log_dir: Path, volume: Path, now: float, sweep: Sweep) -> None:
    """The largest gain for the least room first: removing, then compressing from the smallest file on."""
    for file in old_files(log_dir, volume, now - REMOVE_AFTER_DAYS * DAY_SECONDS):
        if file.path.name.endswith(COMPRESSED):
            sweep.take("removed_log", file.path, file.bytes, file.remove)
    plain = [one for one in old_files(log_dir, volume, now - COMPRESS_AFTER_DAYS * DAY_SECONDS) if _is_log(one)]
    with _leases_told_in_silence():
        for file in sorted(plain, key=lambda one: one.bytes):
            if is_written(file.path):
                sweep.skip(file.path, "a process has it open")
            else:
                sweep.take("compressed_log", file.path, file.bytes, lambda path=file.path: compress(path))


def compress(path: Path) -> None:
    """Put a compressed file, as old as this one, in its place; after a crash in between the next run does it again."""
    status = path.stat()
    seconds, fraction = divmod(status.st_mtime_ns, 10**9)
    # Down to the nanosecond: two files of a second must not become one.
    written = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(seconds))}.{fraction:09}Z"
    target = path.with_name(f"{LOG.sub('.log', path.name)}.{written}{COMPRESSED}")
    scratch = scratch_path(target)
    try:
        with path.open("rb") as reading, open_anew(scratch) as file:
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=int(status.st_mtime)) as writing:
                shutil.copyfileobj(reading, writing, 1024 * 1024)
            file.flush()
            os.utime(file.fileno(), ns=(status.st_mtime_ns, status.st_mtime_ns))
            os.fsync(file.fileno())
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    publish(scratch, target)
    path.unlink(missing_ok=True)


def is_written(path: Path) -> bool:
    """Whether any process of this node has the file open for writing: then the kernel gives no read lease on it.

    A file system that knows no leases tells nothing, so its files count as written (fcntl(2), F_SETLEASE).
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextmanager
def _leases_told_in_silence() -> Generator[None]:
    """Whoever opens a file while the lease is held makes the kernel send SIGIO, which would end the process."""
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGIO, before)


def _is_log(file: OldFile) -> bool:
    return LOG.search(file.path.name) is not None
