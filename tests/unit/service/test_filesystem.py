from pathlib import Path

import pytest

from knowledgebeast_service.errors import StartupError
from knowledgebeast_service.storage.filesystem import file_system_type, refuse_network_file_system

MOUNTS = """\
22 1 252:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
50 22 0:44 / /mnt/team\\040share rw - nfs4 server:/export rw
51 22 252:16 / /data rw - xfs /dev/vdb rw
52 51 0:45 / /data/cloud rw master:3 - fuse.sshfs host: rw
53 22 252:17 / /mnt/team\\040share/local rw - ext4 /dev/vdc rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home", "ext4"),
        ("/data/kb", "xfs"),
        ("/database", "ext4"),
        ("/data/cloud/x", "fuse.sshfs"),
        ("/mnt/team share", "nfs4"),
        ("/mnt/team share/local/kb", "ext4"),
    ],
)
def test_the_nearest_mount_decides(path: str, kind: str) -> None:
    assert file_system_type(Path(path), MOUNTS) == kind


def test_of_two_mounts_on_one_point_the_later_hides_the_earlier() -> None:
    assert file_system_type(Path("/data"), MOUNTS + "60 22 0:9 / /data rw - nfs x rw\n") == "nfs"


def test_a_network_file_system_is_refused_with_a_sentence(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"22 1 0:1 / / rw - ext4 x rw\n23 22 0:2 / {tmp_path} rw - cifs //srv/share rw\n")
    with pytest.raises(StartupError, match="lies on cifs, a network file system"):
        refuse_network_file_system(tmp_path, mounts)


def test_here_it_passes(tmp_path: Path) -> None:
    refuse_network_file_system(tmp_path)
