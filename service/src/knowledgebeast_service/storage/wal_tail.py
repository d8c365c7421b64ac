"""Whether the end of the `-wal` is there. SQLite reads it up to the first frame that does not fit, without a word: a
cut or broken one looks like a shorter history, and nobody would know what was lost.

Formats: sqlite.org/walformat.html. The `-shm` of a process that was killed says how many frames there were.
"""

from dataclasses import dataclass
from pathlib import Path

WAL_HEADER, FRAME_HEADER = 32, 24
LARGEST_PAGE = 65_536


@dataclass(frozen=True)
class WalState:
    """`frames` are committed ones by the `-shm`, `copied` of them are in the database already; None = no `-shm`."""

    has_wal: bool
    frames: int | None
    copied: int | None
    salts: bytes = b""


def wal_state(database: Path) -> WalState:
    """To be taken before SQLite opens the file: the first to open it makes the `-shm` anew."""
    wal, shm = (database.with_name(f"{database.name}{suffix}") for suffix in ("-wal", "-shm"))
    index = _read(shm, 136)
    has_wal = wal.exists() and wal.stat().st_size > 0
    if len(index) < 136 or not index[12]:  # isInit
        return WalState(has_wal, None, None)
    frames, copied = (int.from_bytes(index[start : start + 4], "little") for start in (16, 96))
    return WalState(has_wal, frames, copied, index[32:40])


def is_tail_there(database: Path, before: WalState) -> bool:
    """Whether everything committed is in the file and its `-wal`, as they are read now; `before` as of before that."""
    if not before.has_wal:
        # SQLite removes both files when the last one closes; a lone -shm says that the -wal was taken away.
        return before.frames is None or before.frames == before.copied
    now = wal_state(database)
    if before.frames is None or now.frames is None:
        return False
    if now.salts == before.salts and now.frames < before.frames:
        return False
    return not _commits_after(database.with_name(f"{database.name}-wal"), now.frames)


def _commits_after(wal: Path, frames: int) -> bool:
    """Whether frames of this very log, with the end of a transaction among them, follow those that SQLite takes."""
    with wal.open("rb") as file:
        header = file.read(WAL_HEADER)
        stored = int.from_bytes(header[8:12], "big")
        page = LARGEST_PAGE if stored == 1 else stored
        if len(header) < WAL_HEADER or page < 512:
            return True
        position = WAL_HEADER + frames * (FRAME_HEADER + page)
        while True:
            file.seek(position)
            frame = file.read(FRAME_HEADER)
            if len(frame) < FRAME_HEADER or frame[8:16] != header[16:24]:
                return False
            if int.from_bytes(frame[4:8], "big"):
                return True
            position += FRAME_HEADER + page


def _read(path: Path, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(size)
    except FileNotFoundError:
        return b""
