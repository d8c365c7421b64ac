"""Keeping the keyword indexes in a file beside the database, so that a start replays only what came after.

All replicas of a database share one file, DATA_DIR/keyword-index/frozen.bin, and one lock for writing it. Every failure
here means a slower start and nothing else: the file is used only if it is whole, has a tag that the database knows, and
gives exactly the chunks that the database has.
"""

import contextlib
import fcntl
import logging
import os
import shutil
import time
from collections.abc import Generator
from pathlib import Path

from knowledgebeast_service.errors import DatabaseError
from knowledgebeast_service.search.frozen import (
    Frozen,
    FrozenProject,
    UnusableFileError,
    frozen_bytes,
    read_frozen,
    read_seq,
    write_frozen,
)
from knowledgebeast_service.search.memory import give_back_memory
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.index_marks import has_mark, leave_mark
from knowledgebeast_service.storage.records import ANALYSER_VERSION

log = logging.getLogger(__name__)

FOLDER = "keyword-index"
NAME = "frozen.bin"
# Below these, building from the database is as fast as reading a file.
FEWEST_CHUNKS = 2000
FEWEST_CHANGES = 2000
SHARE_CHANGED = 0.1
SECONDS_BETWEEN = 60.0
# Free space that must be there, in files: the database needs what the file would take.
SPACE_FACTOR = 4


class IndexFile:
    """The file of one database; `kept_seq` is the change that it goes up to, as far as this process knows."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._folder = database.path.parent / FOLDER
        self.path = self._folder / NAME
        self.kept_seq = 0
        self._tried_at = -SECONDS_BETWEEN

    def load(self, connection: Connection) -> Frozen | None:
        """The state in the file, if this very database went through it."""
        try:
            frozen = read_frozen(self.path, ANALYSER_VERSION)
            if not has_mark(connection, frozen.tag, frozen.seq):
                raise UnusableFileError("it is of another database, or of another history of this one")
        except UnusableFileError as error:
            log.info("the keyword index is built from the database, not from %s: %s", self.path, error)
            return None
        self.kept_seq = frozen.seq
        return frozen

    def is_due(self, seq: int, chunks: int) -> bool:
        """Whether enough has changed, and not too much was written lately."""
        changes = seq - self.kept_seq
        is_worth_it = chunks >= FEWEST_CHUNKS and changes >= max(FEWEST_CHANGES, SHARE_CHANGED * chunks)
        return is_worth_it and time.monotonic() - self._tried_at >= SECONDS_BETWEEN

    def keep(self, seq: int, projects: tuple[FrozenProject, ...]) -> None:
        """Write the state at `seq`, unless another replica is writing or has written one as good. Blocks."""
        self._tried_at = time.monotonic()
        try:
            with self._alone() as is_alone:
                if not is_alone:
                    return
                others_seq = read_seq(self.path)
                if self.kept_seq < others_seq <= seq:
                    self.kept_seq = others_seq  # judged by its changes since at the next occasion
                    return
                self._write(seq, projects)
        except (OSError, DatabaseError) as error:
            log.warning("the keyword index is not kept for the next start: %s", error)

    def _write(self, seq: int, projects: tuple[FrozenProject, ...]) -> None:
        for partial in self._folder.glob("*.partial"):
            partial.unlink(missing_ok=True)  # of a process that was killed
        free, needed = shutil.disk_usage(self._folder).free, SPACE_FACTOR * frozen_bytes(projects)
        if free < needed:
            log.warning(
                "the keyword index is not kept: %d bytes are free at %s, %d are asked for", free, self._folder, needed
            )
            return
        compact = tuple(FrozenProject(one.id, one.uid, one.index.compacted()) for one in projects)
        tag = self._database.write_now(lambda connection: leave_mark(connection, seq))
        size = write_frozen(self.path, Frozen(seq, tag, ANALYSER_VERSION, compact))
        give_back_memory()
        self.kept_seq = seq
        log.info("kept the keyword index as of change %d: %d bytes", seq, size)

    @contextlib.contextmanager
    def _alone(self) -> Generator[bool]:
        """Whether no other process is writing; for as long as the block runs."""
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(descriptor)


def discard(path: Path) -> None:
    """Remove a file that does not say what the database says."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
