"""Which volume this is, and whose: `volume.json` in the data folder, written by whoever opens a database there first.

Without it an empty volume that was mounted by mistake looks exactly like a database that was lost, and the volume of
another object exactly like one's own.
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
class FormerOwner:
    """Whose the volume was, and until when (Unix time)."""

    owner: str
    until: float


@dataclass(frozen=True)
class VolumeIdentity:
    """`owner` is namespace/name of the KnowledgeBeast object, where there is one: an object that is made again under
    its name has another uid, and takes its volume over all the same.

    `has_database` is False only between the first start on a volume and its first database: from then on a database
    that is not there has been lost.
    """

    volume_id: str
    created_at: float
    owner: str | None = None
    has_database: bool = True
    former_owners: tuple[FormerOwner, ...] = ()


def read_identity(data_dir: Path) -> VolumeIdentity | None:
    """None where there is none, or none that can be read."""
    try:
        content = json.loads((data_dir / NAME).read_text(encoding="utf-8"))
        owner = content.get("owner")
        return VolumeIdentity(
            str(content["volume_id"]),
            float(content["created_at"]),
            None if owner is None else str(owner),
            bool(content.get("has_database", True)),
            tuple(FormerOwner(str(one["owner"]), float(one["until"])) for one in content.get("former_owners", ())),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def owned_by_another(data_dir: Path, owner: str | None) -> str | None:
    """Why nothing must be written to this volume, in a sentence; None where it is the owner's, or has none yet.

    Who names no owner (a laptop, a person in a pod) may use any volume.
    """
    identity = read_identity(data_dir) if owner is not None else None
    if identity is None or identity.owner in (None, owner):
        return None
    return (
        f"{data_dir} is the volume of {identity.owner}, not of {owner}, so nothing is written to it. Mount the right "
        f"one; or, if this is to be the volume of {owner} from now on, run where it is mounted: "
        f"knowledgebeast maintain adopt --from {identity.owner}"
    )


def ensure_identity(data_dir: Path, owner: str | None = None) -> VolumeIdentity:
    """The identity; made when there is no file. Of two processes that start together the first one's stays.

    Raises:
        StartupError: there is a file that cannot be read.
    """
    path = data_dir / NAME
    if not path.exists():
        new = VolumeIdentity(secrets.token_hex(16), time.time(), owner, has_database=False)
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


def record_database(data_dir: Path, owner: str | None = None) -> None:
    """This volume has a database now, and this owner unless it has one. The caller holds a lock that keeps others from
    doing the same: the write lock, or the volume lock exclusively.
    """
    identity = read_identity(data_dir)
    if identity is not None:
        _write(data_dir, identity, replace(identity, has_database=True, owner=identity.owner or owner))


def adopt(data_dir: Path, owner: str, former: str) -> VolumeIdentity:
    """From now on the volume is `owner`'s; done twice, it is done once. The caller holds the volume lock exclusively.

    Raises:
        ValueError: it is not `former`'s; nothing was changed.
    """
    identity = read_identity(data_dir)
    if identity is not None and identity.owner == owner:
        return identity
    if identity is None or identity.owner != former:
        said = "nobody" if identity is None or identity.owner is None else identity.owner
        raise ValueError(f"{data_dir} is the volume of {said}, not of {former}: nothing was changed")
    before = (*identity.former_owners, FormerOwner(former, time.time()))
    adopted = replace(identity, owner=owner, former_owners=before)
    _write(data_dir, identity, adopted)
    return adopted


def _write(data_dir: Path, before: VolumeIdentity, after: VolumeIdentity) -> None:
    if after != before:
        write_file(data_dir / NAME, _encoded(after))


def _encoded(identity: VolumeIdentity) -> bytes:
    content = {key: value for key, value in asdict(identity).items() if value not in (None, ())}
    return f"{json.dumps(content)}\n".encode()
