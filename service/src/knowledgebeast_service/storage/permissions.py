"""Whether this process may use the files of a database. One that it may not read is no damaged one: nothing is to be
done to it, and the cure is an owner or a mode.
"""

import os
import stat
from pathlib import Path

from knowledgebeast_service.storage.damage import side_files

NOT_READABLE = "NotReadable"


def not_permitted(database: Path, *, to_write: bool = False) -> str | None:
    """Which of the files that exist this process may not read (or write), and the cure; None where it may."""
    asked = os.R_OK | (os.W_OK if to_write else 0)
    for path in (database.parent, database, *side_files(database)):
        needed = asked | os.X_OK if path == database.parent else asked
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        except PermissionError:  # of a folder further up, which has no owner that we can see
            return f"{_who()} may not look into {path.parent}: {_cure(database)}"
        if not os.access(path, needed):
            what = "read" if not os.access(path, needed & ~os.W_OK) else "write to"
            owned = f"it belongs to user {status.st_uid}, mode {stat.S_IMODE(status.st_mode):04o}"
            return f"{_who()} may not {what} {path} ({owned}): {_cure(database)}"
    return None


def _who() -> str:
    return f"user {os.geteuid()}, who runs this,"


def _cure(database: Path) -> str:
    return (
        "its content is not known to be damaged, and nothing was changed. Give the files back to the service "
        f"(chown -R {os.geteuid()} {database.parent}; chmod -R u+rwX {database.parent}), or run this as their owner."
    )
