"""Which file system a path lies on. SQLite's WAL needs shared memory and true locks, which network ones do not give."""

from pathlib import Path

from knowledgebeast_service.errors import StartupError

MOUNTS = Path("/proc/self/mountinfo")
NETWORK_TYPES = frozenset(
    {
        "9p", "afs", "beegfs", "ceph", "cifs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "gfs2", "glusterfs",
        "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "smb3", "smbfs",
    }
)  # fmt: skip


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
