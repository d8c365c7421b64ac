"""Postings that were made by an older analyser: finding them, and storing what takes their place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from knowledgebeast_service.storage.chunks import TermIds, pack_postings
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.documents import next_seq, record_change


@dataclass(frozen=True)
class OutdatedChunk:
    """What a chunk's terms are made of."""

    chunk_id: int
    title: str
    text: str


@dataclass(frozen=True)
class AnalysedChunk:
    """A chunk's terms with their counts."""

    chunk_id: int
    terms: Mapping[str, int]


def outdated_chunks(connection: Connection, version: int, limit: int) -> list[OutdatedChunk]:
    """Chunks whose postings are of an analyser older than `version`."""
    rows = connection.rows(
        "SELECT c.id, d.title, c.text FROM postings p JOIN chunks c ON c.id = p.chunk_id "
        "JOIN documents d ON d.id = c.document_id WHERE p.analyser < ? ORDER BY p.analyser, p.chunk_id LIMIT ?",
        (version, limit),
    )
    return [OutdatedChunk(int(chunk_id), str(title), str(text)) for chunk_id, title, text in rows]


def newest_analyser(connection: Connection) -> int:
    """The highest version that has made postings here; 0 for none."""
    return connection.number("SELECT max(analyser) FROM postings")


def replace_postings(connection: Connection, version: int, chunks: Sequence[AnalysedChunk]) -> int:
    """Store new postings, for replicas to follow; returns how many. Chunks deleted or done meanwhile are skipped.

    A chunk's text never changes under its id, so what was analysed before the transaction is still true in it.
    """
    terms = TermIds(connection)
    ids = terms.of({term for chunk in chunks for term in chunk.terms})
    seqs: dict[int, int] = {}
    replaced = 0
    for chunk in chunks:
        row = connection.row(
            "SELECT d.project_id, d.id, p.term_ids FROM postings p JOIN chunks c ON c.id = p.chunk_id "
            "JOIN documents d ON d.id = c.document_id WHERE p.chunk_id = ? AND p.analyser < ?",
            (chunk.chunk_id, version),
        )
        if row is None:
            continue
        project_id, document_id, old_term_ids = row
        if project_id not in seqs:
            seqs[project_id] = next_seq(connection, project_id)
        connection.execute(
            "UPDATE postings SET length = ?, term_ids = ?, counts = ?, analyser = ? WHERE chunk_id = ?",
            (*pack_postings(chunk.terms, ids), version, chunk.chunk_id),
        )
        seq = seqs[project_id]
        record_change(connection, project_id, seq, "remove", chunk.chunk_id, document_id, old_term_ids)
        record_change(connection, project_id, seq, "add", chunk.chunk_id, document_id)
        replaced += 1
    return replaced
