"""Which volume this is: `volume.json` in the data folder, written once by whoever opens a database there first.

Without it an empty volume that was mounted by mistake looks exactly like a database that was lost.
"""

import json
import secrets
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from knowledgebeast_service.errors import StartupError
from knowledgebeast_service.storage.durable import scratch_path, sync_file, sync_folder, write_file

NAME = "volume.json"


@dataclass(frozen=True)
class VolumeIdentity:
    """`object_uid` is of the KnowledgeBeast object, where there is one.

    `has_database` is False only between the first start on a volume and its first database: from then on a database
    that is not there has been lost.
    """

    volume_id: str
    created_at: float
    object_uid: str | None = None
    has_database: bool = True


def read_identity(data_dir: Path) -> VolumeIdentity | None:
    """None where there is none, or none that can be read."""
    try:
        content = json.loads((data_dir / NAME).read_text(encoding="utf-8"))
        return VolumeIdentity(
            str(content["volume_id"]),
            float(content["created_at"]),
            content.get("object_uid"),
            bool(content.get("has_database", True)),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def ensure_identity(data_dir: Path, object_uid: str | None = None) -> VolumeIdentity:
    """The identity; made when there is no file. Of two processes that start together the first one's stays.

    Raises:
        StartupError: there is a file that cannot be read.
    """
    path = data_dir / NAME
    if not path.exists():
        new = VolumeIdentity(secrets.token_hex(16), time.time(), object_uid, has_database=False)
        scratch = scratch_path(path.with_name(f"{NAME}.{new.volume_id}"))
        scratch.write_bytes(_encoded(new))
        sync_file(scratch)
        try:
            path.hardlink_to(scratch)
        except FileExistsError:
            pass
        finally:
            scratch.unlink()
        sync_folder(data_dir)
    found = read_identity(data_dir)
    if found is None:
        raise StartupError(f"{path} cannot be read: put back the file, or remove it when this is the right volume")
    return found


def record_database(data_dir: Path) -> None:
    """This volume has a database now. The caller holds the write lock."""
    identity = read_identity(data_dir)
    if identity is not None and not identity.has_database:
        write_file(data_dir / NAME, _encoded(replace(identity, has_database=True)))


def _encoded(identity: VolumeIdentity) -> bytes:
    content = {key: value for key, value in asdict(identity).items() if value is not None}
    return f"{json.dumps(content)}\n".encode()
