"""What a restored file must not keep of the one that it is a copy of, and what it must go on above.

Numbers that were given once may be known outside: a chunk's in Chroma, a project's sequence in a client's `min_seq`,
a change's in a frozen keyword index. So all go on above the highest ever given. Its history is another one than that of
the file it replaces: it gets a new identity, under which its changes are shipped, and no proof left for an index file.
"""

import secrets
import time
from collections.abc import Mapping

from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.documents import record_change

# Where nothing says how far the numbers had come: more than is written between two shipments, by far.
GAP = 1_000_000
SHIPPED = "outbox"  # counts changes of this identity, and is shipped without gaps


def renew_identity(connection: Connection) -> str:
    """A new identity, with nothing to ship yet and no index file to believe."""
    identity = secrets.token_hex(16)
    connection.execute("UPDATE identity SET database_id = ?", (identity,))
    connection.execute("DELETE FROM outbox")
    connection.execute("DELETE FROM index_marks")
    return identity


def raise_sequences(connection: Connection, issued: Mapping[str, int], *, is_known: bool) -> None:
    """Let every sequence go on above `issued`, far above where those are not known to be the highest."""
    tables = {str(row[0]) for row in connection.rows("SELECT name FROM sqlite_schema WHERE sql LIKE '%AUTOINCREMENT%'")}
    for table in sorted(tables):
        own = connection.number("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,))
        gap = 0 if is_known or table == SHIPPED else GAP
        connection.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
        connection.execute("INSERT INTO sqlite_sequence VALUES (?, ?)", (table, max(own, issued.get(table, 0)) + gap))


def announce(connection: Connection, attempt: str, backup_id: str) -> None:
    """Let everyone see that it is another state: no cached answer and no collection of Chroma is of this one."""
    top = connection.number("SELECT seq FROM sqlite_sequence WHERE name = 'changes'")
    connection.execute("UPDATE projects SET seq = max(seq, ?) + 1", (top,))
    for project_id, seq in list(connection.rows("SELECT id, seq FROM projects ORDER BY id")):
        record_change(connection, int(project_id), int(seq), "touch")
    connection.execute("UPDATE ingest_queue SET lease_owner = NULL, lease_until = 0")
    connection.execute(
        "INSERT INTO restores (attempt, backup, restored_at) VALUES (?, ?, ?)", (attempt, backup_id, time.time())
    )
