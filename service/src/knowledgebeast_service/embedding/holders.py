"""Which processes on a data volume have the model: each holds a shared lock on one file for as long as it lives.

A new pod that cannot load the model is not ready while another one has it, so a rollout that would take the vectors
away stops at its first pod. Where nobody has it every pod serves what it can.
"""

import fcntl
import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

LOCK_NAME = "embedding-model.lock"


class ModelHolders:
    """The lock belongs to the open file, so the kernel gives it back when the process ends, however that happens."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / LOCK_NAME
        self._held: int | None = None

    def join(self) -> None:
        """This process has, or has had, the model."""
        if self._held is not None:
            return
        try:
            descriptor = self._open()
        except OSError as error:
            log.warning("others are not told that the model is loaded here: %s", error)
            return
        fcntl.flock(descriptor, fcntl.LOCK_SH)  # waits only for a process that is just asking
        self._held = descriptor

    def is_behind(self) -> bool:
        """Whether another process has the model and this one has never had it. A volume that cannot tell: no."""
        if self._held is not None:
            return False
        try:
            descriptor = self._open()
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def leave(self) -> None:
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
