"""Locks between processes; the kernel releases them however their owner ends."""

import contextlib
import fcntl
import os
from collections.abc import Generator
from pathlib import Path

from local_cluster.console import Console


@contextlib.contextmanager
def exclusive(console: Console, path: Path, purpose: str) -> Generator[None]:
    """Waits, and says for whom, until no other process holds the lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            console.say(f"waiting for another process that is {stream.read().strip() or 'at work'} (Ctrl-C to give up)")
            fcntl.flock(stream, fcntl.LOCK_EX)
        stream.truncate(0)
        stream.write(f"{purpose} (process {os.getpid()})")
        stream.flush()
        yield
        stream.truncate(0)
