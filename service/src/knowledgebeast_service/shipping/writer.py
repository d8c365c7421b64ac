"""Appending to the newest segment: a batch, one sync; closed, compressed, when it is large or old.

A file is only ever written by the holder of the lock of its folder. What a killed holder left behind its last whole
line is cut off by the next one: nobody was told that it is safe.
"""

import fcntl
import gzip
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from knowledgebeast_service.shipping.segments import LogicalChange, Segment, from_line, segments, to_line
from knowledgebeast_service.storage.durable import FILE_MODE, make_folder, remove_file, sync_folder, write_file

LOCK = ".shipper"
POSITION = ".position"
POSITION_DIGITS = 20
SEGMENT_BYTES = 16 * 1024 * 1024
SEGMENT_SECONDS = 600.0
COMPRESSION = 1  # a third of the size at a tenth of the time of the best


class Place(NamedTuple):
    """A change, and where its line ends in the file."""

    seq: int = 0
    end: int = 0


class SegmentWriter:
    """The one shipper of a database; `position` is the number of the last change that is safe."""

    def __init__(self, folder: Path, *, segment_bytes: int | None = None) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes or SEGMENT_BYTES
        self._lock: int | None = None
        self._file: int | None = None
        self._first = 0
        self._size = 0
        self._opened_at = 0.0
        self.position = 0

    @property
    def is_holder(self) -> bool:
        return self._lock is not None

    def acquire(self, available_from: int) -> bool:
        """Become the shipper, unless another process is; picks up where the last one ended.

        `available_from` is the first change that can be shipped again, should its line be damaged.

        Raises:
            OSError: the volume refuses.
        """
        make_folder(self._folder)
        lock = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._recover(available_from)
        except BlockingIOError:
            os.close(lock)
            return False
        except BaseException:
            os.close(lock)
            raise
        self._lock = lock
        return True

    def append(self, changes: Sequence[LogicalChange]) -> None:
        """Make the changes, which follow `position`, safe.

        Raises:
            OSError: nothing of them counts; the file is as before, or the writer has given up its role.
        """
        if self._file is None:
            self._open(changes[0].seq)
        assert self._file is not None
        content = b"".join(map(to_line, changes))
        try:
            _write_all(self._file, content, self._size)
            os.fdatasync(self._file)
        except OSError:
            # After a failed sync nobody knows what is on disk: begin again with what can be read back.
            self.release()
            raise
        self._size += len(content)
        self._advance(changes[-1].seq)
        if self._size >= self._segment_bytes:
            self.close_segment()

    def close_old_segment(self) -> None:
        """Close a segment that has been open for long, so that it can be removed when its changes are in backups."""
        if self._file is not None and time.monotonic() - self._opened_at >= SEGMENT_SECONDS:
            self.close_segment()

    def close_segment(self) -> None:
        """Compress the open segment; the next change begins another one."""
        if self._file is None:
            return
        path = _open_path(self._folder, self._first)
        closed = self._folder / f"{self._first:012}-{self.position:012}.jsonl.gz"
        os.close(self._file)
        self._file = None
        write_file(closed, gzip.compress(path.read_bytes(), COMPRESSION))
        remove_file(path)

    def release(self) -> None:
        """Leave the role to others."""
        for descriptor in (self._file, self._lock):
            if descriptor is not None:
                os.close(descriptor)
        self._file = self._lock = None

    def _open(self, first: int) -> None:
        self._file = os.open(_open_path(self._folder, first), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        sync_folder(self._folder)
        self._first, self._size, self._opened_at = first, 0, time.monotonic()

    def _recover(self, available_from: int) -> None:
        found = segments(self._folder)
        self.position = max((one.last for one in found if one.last is not None), default=0)
        for one in (one for one in found if one.last is None):
            self._recover_open(one, available_from)
        self._advance(self.position)

    def _recover_open(self, segment: Segment, available_from: int) -> None:
        before_damage, last, is_damaged, end = Place(), Place(), False, 0
        with segment.path.open("rb") as file:
            for line in file:
                change, end = from_line(line), end + len(line)
                is_damaged = is_damaged or change is None
                if change is not None:
                    last = Place(change.seq, end)
                if not is_damaged:
                    before_damage = last
        # What was not synced may have reached the disk in any order, so good lines may follow a torn one. They are
        # given up only if all of them can be shipped again.
        kept = before_damage if available_from <= before_damage.seq + 1 else last
        if kept.seq <= self.position:  # it was being closed, or nothing in it was ever safe
            remove_file(segment.path)
            return
        self._file = os.open(segment.path, os.O_RDWR | os.O_CLOEXEC)
        os.ftruncate(self._file, kept.end)
        os.fsync(self._file)
        self._first, self._size, self._opened_at = segment.first, kept.end, time.monotonic()
        self.position = kept.seq

    def _advance(self, position: int) -> None:
        self.position = position
        write_position(self._folder, position)


def write_position(folder: Path, position: int) -> None:
    """Tell the other processes; a hint, and never ahead of what is safe."""
    descriptor = os.open(folder / POSITION, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        os.pwrite(descriptor, f"{position:0{POSITION_DIGITS}}".encode(), 0)
    finally:
        os.close(descriptor)


def read_position(folder: Path) -> int:
    """The number of the last change that is safe, as its shipper says; 0 when there was none."""
    try:
        return int((folder / POSITION).read_bytes() or b"0")
    except (FileNotFoundError, ValueError):
        return 0


def _open_path(folder: Path, first: int) -> Path:
    return folder / f"{first:012}-open.jsonl"


def _write_all(descriptor: int, content: bytes, offset: int) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
