"""Which file system a path lies on, and its room. SQLite's WAL needs shared memory and true locks, not a network."""

import errno
import os
import shutil
from pathlib import Path

import apsw

from knowledgebeast_service.errors import StartupError, VolumeFullError

MOUNTS = Path("/proc/self/mountinfo")
NETWORK_TYPES = frozenset(
    {
        "9p", "afs", "beegfs", "ceph", "cifs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "gfs2", "glusterfs",
        "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "smb3", "smbfs",
    }
)  # fmt: skip


def is_full(error: BaseException | None) -> bool:
    """Whether it says that there is no room, and not that something is broken."""
    is_no_room = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return is_no_room or isinstance(error, apsw.FullError)


def free_bytes(folder: Path) -> int:
    """What an ordinary user may still write."""
    return shutil.disk_usage(folder).free


def used_percent(folder: Path) -> float:
    """How much of the file system an ordinary user cannot write any more, 0 to 100; as the kubelet counts it."""
    status = os.statvfs(folder)
    return 100 * (1 - status.f_bavail / status.f_blocks) if status.f_blocks else 100.0


def require_room(folder: Path, most_percent: float) -> None:
    """Refuse before the volume is full: a database that cannot write its log cannot even delete.

    Raises:
        VolumeFullError: `most_percent` of it is used, or more.
    """
    used = used_percent(folder)
    if used >= most_percent:
        raise VolumeFullError(
            f"{used:.1f} % of the volume of the database is used, and from {most_percent:g} % on no documents are "
            "taken; searches go on. Delete documents, run `knowledgebeast maintain clean`, or enlarge the volume; "
            "then send them again."
        )


def file_system_type(path: Path, mounts: str) -> str:
    """Type of the file system that `path` lies on, from the text of /proc/self/mountinfo (proc(5)).

    The longest mount point that is a parent wins, and of equal ones the last, which hides the others.
    """
    best, kind = -1, "unknown"
    for line in mounts.splitlines():
        fields, _, tail = line.partition(" - ")
        point = fields.split()[4].encode().decode("unicode_escape")  # blanks are written as \040
        if Path(point) in (path, *path.parents) and len(point) >= best:
            best, kind = len(point), tail.split()[0]
    return kind


def refuse_network_file_system(folder: Path, mounts: Path = MOUNTS) -> None:
    """Raise StartupError where the database must not lie. Does nothing where the kernel has no mount table."""
    if not mounts.exists():
        return
    kind = file_system_type(folder.resolve(), mounts.read_text(encoding="utf-8", errors="surrogateescape"))
    if kind in NETWORK_TYPES:
        raise StartupError(
            f"DATA_DIR {folder} lies on {kind}, a network file system: SQLite in WAL mode loses data there "
            "(sqlite.org/wal.html). Use a volume that is a block device or a local disk."
        )
