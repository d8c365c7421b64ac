"""The end of old entries of the change log. It is for replicas that follow, which are milliseconds behind, not hours.

Nobody knows all replicas, so entries go by age: a mark a minute remembers how far the log was. A replica that slept
for longer finds the log to begin after its own position, and loads everything anew.
"""

import time

from knowledgebeast_service.storage.connection import Connection

KEEP_SECONDS = 3600.0
MARK_SECONDS = 60.0
# Rows of one transaction: deleting a whole bulk load at once would keep writers waiting.
BATCH = 5000


def has_gap(connection: Connection, applied_seq: int) -> bool:
    """Whether entries after `applied_seq` are gone already, so that following on would miss them."""
    first = connection.row("SELECT min(seq) FROM changes")
    return first is not None and first[0] is not None and int(first[0]) > applied_seq + 1


def needs_pruning(connection: Connection) -> bool:
    """Whether `prune` would do something; spares the write lock."""
    now = time.time()
    newest = connection.row("SELECT seq, at FROM change_marks ORDER BY seq DESC LIMIT 1")
    head = connection.number("SELECT max(seq) FROM changes")
    if newest is None or (head > newest[0] and not now - MARK_SECONDS < newest[1] <= now):
        return head > 0
    return _first_kept(connection, now) > connection.number("SELECT min(seq) FROM changes")


def prune(connection: Connection) -> int:
    """Set a mark, and delete up to BATCH entries that are older than KEEP_SECONDS; returns how many.

    The newest entry stays: it is what `change_head` reads.
    """
    now = time.time()
    head = connection.number("SELECT max(seq) FROM changes")
    connection.execute("DELETE FROM change_marks WHERE at > ?", (now,))  # the clock was set back
    connection.execute(
        "INSERT INTO change_marks (seq, at) SELECT ?, ? WHERE ? > 0 AND NOT EXISTS "
        "(SELECT 1 FROM change_marks WHERE seq = ? OR at > ?)",
        (head, now, head, head, now - MARK_SECONDS),
    )
    first_kept = _first_kept(connection, now)
    connection.execute(
        "DELETE FROM changes WHERE seq IN (SELECT seq FROM changes WHERE seq < ? ORDER BY seq LIMIT ?)",
        (first_kept, BATCH),
    )
    deleted = connection.changed_rows()
    # Of the marks that have come of age only the newest says something.
    connection.execute("DELETE FROM change_marks WHERE seq < ?", (first_kept,))
    return deleted


def _first_kept(connection: Connection, now: float) -> int:
    """The sequence number of the newest mark that has come of age; 0 = none."""
    return connection.number("SELECT max(seq) FROM change_marks WHERE at <= ?", (now - KEEP_SECONDS,))
