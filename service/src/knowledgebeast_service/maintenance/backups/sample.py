"""The query whose answer is known: a stored chunk, asked for by its own words, must be among the answers.

The index is made of the chunk and others around it as they are stored, by the code that serves searches, so that text,
postings and terms that do not belong together are found out.
"""

import random
from collections import Counter

from knowledgebeast_service.search.analyser import ANALYSER_VERSION, analyse
from knowledgebeast_service.search.keyword_index import KeywordIndex
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.records import ChunkPostings, unpack_ids

SAMPLES = 5
NEIGHBOURS = 200  # of the index that is asked


def unanswered(connection: Connection, seed: int = 0) -> int | None:
    """A sampled chunk that is not found by its own words, or None when all are."""
    newest = connection.number("SELECT max(id) FROM chunks")
    chosen = random.Random(seed)
    for _ in range(SAMPLES if newest else 0):
        start = chosen.randint(1, newest)
        row = connection.row(
            "SELECT c.id, d.title, c.text, p.analyser FROM chunks c JOIN documents d ON d.id = c.document_id "
            "LEFT JOIN postings p ON p.chunk_id = c.id WHERE c.id >= ? ORDER BY c.id LIMIT 1",
            (start,),
        )
        # The terms of a chunk that waits to be analysed anew are those of other rules.
        if row is None or row[3] != ANALYSER_VERSION:
            continue
        if not _answers_itself(connection, int(row[0]), f"{row[1]}\n{row[2]}"):
            return int(row[0])
    return None


def _answers_itself(connection: Connection, chunk_id: int, text: str) -> bool:
    terms = Counter(analyse(" ".join(text.split())))
    numbers = {term: connection.number("SELECT id FROM terms WHERE text = ?", (term,)) for term in terms}
    stored = _postings_from(connection, chunk_id)
    own = stored[0]
    counts = dict(zip(own.term_ids.tolist(), own.counts.tolist(), strict=True))
    if counts != {numbers[term]: count for term, count in terms.items()} or own.length != terms.total():
        return False
    if not terms:
        return True  # nothing but marks and stop words: no query finds it
    hits = KeywordIndex().apply(stored).search(list(counts), limit=len(stored))
    return own.document_id in {hit.document_id for hit in hits}


def _postings_from(connection: Connection, chunk_id: int) -> list[ChunkPostings]:
    rows = connection.rows(
        "SELECT p.chunk_id, c.document_id, p.length, p.term_ids, p.counts FROM postings p "
        "JOIN chunks c ON c.id = p.chunk_id WHERE p.chunk_id >= ? ORDER BY p.chunk_id LIMIT ?",
        (chunk_id, NEIGHBOURS),
    )
    return [ChunkPostings(*row[:3], term_ids=unpack_ids(row[3]), counts=unpack_ids(row[4])) for row in rows]
