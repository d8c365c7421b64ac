"""That this database was restored, and whether Chroma has been brought in step with it since."""

import time

from knowledgebeast_service.storage.connection import Connection

RESTORES = """
CREATE TABLE restores (
    attempt TEXT PRIMARY KEY,
    backup TEXT NOT NULL,
    restored_at REAL NOT NULL,
    reconciled_at REAL                         -- when Chroma held what this database holds; NULL = not yet
) STRICT;
"""


def unreconciled(connection: Connection) -> bool:
    """Whether collections may hold vectors from after the backup, or lack some that are back."""
    return connection.row("SELECT 1 FROM restores WHERE reconciled_at IS NULL") is not None


def reconciled(connection: Connection) -> None:
    """They agree now."""
    connection.execute("UPDATE restores SET reconciled_at = ? WHERE reconciled_at IS NULL", (time.time(),))
