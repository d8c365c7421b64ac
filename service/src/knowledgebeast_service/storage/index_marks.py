"""Proof that a file derived from this database belongs to it.

A file that holds the state at a sequence number can be stale in a way that numbers do not show: after a restore the
log gives the same numbers again to other changes. So whoever writes such a file first leaves a random tag beside its
number here. A database that has the tag has the history up to it; a backup from before does not have the tag.
Whatever copies chunks into another database under new ids must not copy this table.
"""

import secrets

from knowledgebeast_service.storage.connection import Connection

KEPT = 8


def leave_mark(connection: Connection, seq: int) -> str:
    """A new tag for the state at `seq`, which the caller has read from this database. The oldest tags go."""
    tag = secrets.token_hex(16)
    connection.execute("INSERT INTO index_marks (tag, seq, made_at) VALUES (?, ?, unixepoch('subsec'))", (tag, seq))
    connection.execute(
        "DELETE FROM index_marks "
        "WHERE tag NOT IN (SELECT tag FROM index_marks ORDER BY seq DESC, made_at DESC LIMIT ?)",
        (KEPT,),
    )
    return tag


def has_mark(connection: Connection, tag: str, seq: int) -> bool:
    """Whether this database went through that state, and its log still has everything since."""
    known = connection.row("SELECT 1 FROM index_marks WHERE tag = ? AND seq = ?", (tag, seq))
    oldest = connection.number("SELECT min(seq) FROM changes")
    return known is not None and oldest <= seq + 1
