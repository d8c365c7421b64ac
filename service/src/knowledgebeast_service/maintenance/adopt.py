"""`maintain adopt`: the volume of another object becomes this one's, because a person says so."""

from pathlib import Path

from knowledgebeast_service.errors import StartupError
from knowledgebeast_service.storage import volume
from knowledgebeast_service.storage.locks import VolumeLock
from knowledgebeast_service.storage.volume import VolumeIdentity

LOCK_WAIT_SECONDS = 5.0


class NotAdoptedError(Exception):
    """Why not, in a sentence; nothing was changed."""


def adopt(database: Path, owner: str, former: str, lock_wait_seconds: float = LOCK_WAIT_SECONDS) -> VolumeIdentity:
    """Record it. Whoever refuses the volume has nothing open there; its owner, if it is running, has.

    Raises:
        NotAdoptedError: it is not `former`'s volume, or somebody uses it.
    """
    if not database.parent.is_dir():
        raise NotAdoptedError(f"there is no folder {database.parent}: is the volume mounted?")
    lock = VolumeLock(database)
    try:
        lock.acquire(exclusive=True, wait_seconds=lock_wait_seconds)
    except StartupError as error:
        raise NotAdoptedError(str(error)) from error
    try:
        return volume.adopt(database.parent, owner, former)
    except ValueError as error:
        raise NotAdoptedError(str(error)) from error
    finally:
        lock.release()
