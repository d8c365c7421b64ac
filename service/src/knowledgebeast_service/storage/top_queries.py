"""The queries that are asked most, as they outlive processes: to fill caches with, never to look into."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass

from knowledgebeast_service.storage.connection import Connection

DAY_SECONDS = 86_400

TOP_QUERIES = """
-- Counts of whole queries, written in batches and forgotten after some days.
CREATE TABLE top_queries (
    project_id INTEGER NOT NULL,
    hash BLOB NOT NULL,                        -- SHA-256 of the next four columns
    query TEXT NOT NULL,                       -- normalised
    mode TEXT NOT NULL,
    top_k INTEGER NOT NULL,
    highlight INTEGER NOT NULL,
    asked INTEGER NOT NULL,
    last_asked REAL NOT NULL,
    PRIMARY KEY (project_id, hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX top_queries_by_count ON top_queries (project_id, asked);
"""


@dataclass(frozen=True)
class TopQuery:
    """What makes two queries the same answer; filters and later pages are not remembered."""

    query: str
    mode: str
    top_k: int
    highlight: bool

    @property
    def hash(self) -> bytes:
        return hashlib.sha256(f"{self.mode}\0{self.top_k}\0{self.highlight}\0{self.query}".encode()).digest()


def add_counts(connection: Connection, counts: Mapping[tuple[int, TopQuery], int], kept: int, days: float) -> None:
    """Add to the counts of (project id, query); keep the `kept` most asked of a project, none older than `days`."""
    now = time.time()
    connection.execute_many(
        "INSERT INTO top_queries VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) "
        "ON CONFLICT DO UPDATE SET asked = asked + excluded.asked, last_asked = excluded.last_asked",
        [
            (project_id, one.hash, one.query, one.mode, one.top_k, int(one.highlight), asked, now)
            for (project_id, one), asked in counts.items()
        ],
    )
    connection.execute("DELETE FROM top_queries WHERE last_asked < ?", (now - days * DAY_SECONDS,))
    connection.execute("DELETE FROM top_queries WHERE project_id NOT IN (SELECT id FROM projects)")
    # Of equal counts the newer ones stay, or a full table would never let another query in.
    connection.execute_many(
        "DELETE FROM top_queries WHERE project_id = ?1 AND hash IN (SELECT hash FROM top_queries WHERE project_id = ?1 "
        "ORDER BY asked DESC, last_asked DESC LIMIT -1 OFFSET ?2)",
        [(project_id, kept) for project_id in {project_id for project_id, _ in counts}],
    )


def most_asked(connection: Connection, project_id: int, limit: int) -> list[TopQuery]:
    """The most asked queries of a project, most asked first."""
    rows = connection.rows(
        "SELECT query, mode, top_k, highlight FROM top_queries WHERE project_id = ? "
        "ORDER BY asked DESC, last_asked DESC LIMIT ?",
        (project_id, limit),
    )
    return [TopQuery(str(query), str(mode), int(top_k), bool(highlight)) for query, mode, top_k, highlight in rows]


def forget_top_queries(connection: Connection) -> None:
    """All of them."""
    connection.execute("DELETE FROM top_queries")
