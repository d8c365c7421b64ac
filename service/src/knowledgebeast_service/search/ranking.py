"""The best chunk of each of the best documents, over all segments: compiled, or with numpy alone.

Both see the chunks that hold a term of the query, whatever their score, and order them by score, then by chunk id.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from knowledgebeast_service.search.bm25 import K1, Floats
from knowledgebeast_service.search.hits import NO_HITS, Hits, first_of_each
from knowledgebeast_service.search.kernel import Kernel
from knowledgebeast_service.search.segment import Ints, Longs, Segment


@dataclass(frozen=True)
class Query:
    """Terms in the order of the text, repeats kept, with their weights; `only` = sorted ids of allowed documents."""

    terms: Ints
    idfs: Floats
    limit: int
    only: Longs | None = None


NO_FILTER = np.empty(0, dtype=np.int64)


class _Scratch(threading.local):
    """Of each searching thread; zeros between queries."""

    def __init__(self) -> None:
        self.grow(1024)

    def grow(self, rows: int) -> None:
        self.scores = np.zeros(rows)
        self.words = np.zeros((rows + 7) // 8, dtype=np.uint64)
        self.matched = self.words.view(np.uint8)


_scratch = _Scratch()


def by_kernel(kernel: Kernel, segments: Sequence[Segment], norms: Sequence[Floats], query: Query) -> Hits:
    """One pass over the postings; again with a larger heap where documents filled it with several runs of chunks."""
    rows = max((len(segment) for segment in segments), default=0)
    if len(_scratch.scores) < rows:
        _scratch.grow(rows)
    capacity = query.limit
    while True:
        hits, is_all = _kernel_pass(kernel, segments, norms, query, capacity)
        if is_all or len(hits) == query.limit:
            return hits
        capacity *= 8


def _kernel_pass(
    kernel: Kernel, segments: Sequence[Segment], norms: Sequence[Floats], query: Query, capacity: int
) -> tuple[Hits, bool]:
    """(hits, whether nothing was left out of the heap)."""
    scores = np.empty(capacity)
    chunks = np.empty(capacity, dtype=np.int64)
    documents = np.empty(capacity, dtype=np.int64)
    is_filtered = query.only is not None
    allowed = NO_FILTER if query.only is None else query.only
    scratch = _scratch
    size = 0
    for segment, norm in zip(segments, norms, strict=True):
        size = kernel.rank_segment(
            segment.terms, segment.starts, segment.rows, segment.counts, norm, segment.live,
            segment.chunk_ids, segment.document_ids, query.terms, query.idfs, allowed, is_filtered,
            scratch.scores, scratch.matched, scratch.words, scores, chunks, documents, size,
        )  # fmt: skip
    return _grouped(scores[:size], chunks[:size], documents[:size], query.limit), size < capacity


def by_numpy(segments: Sequence[Segment], norms: Sequence[Floats], query: Query) -> Hits:
    """The same, without compiled code."""
    parts = [_matching(segment, norm, query) for segment, norm in zip(segments, norms, strict=True)]
    if not parts:
        return NO_HITS
    scores, chunks, documents = (np.concatenate(column) for column in zip(*parts, strict=True))
    for candidates in (4 * query.limit, len(scores)):
        if candidates < len(scores):
            threshold = np.partition(scores, len(scores) - candidates)[len(scores) - candidates]
            chosen = np.flatnonzero(scores >= threshold)
            hits = _grouped(scores[chosen], chunks[chosen], documents[chosen], query.limit)
            if len(hits) == query.limit:
                return hits
    return _grouped(scores, chunks, documents, query.limit)


def _matching(segment: Segment, norms: Floats, query: Query) -> tuple[Floats, Longs, Longs]:
    """(scores, chunk ids, document ids) of the segment's matching chunks."""
    scores = np.zeros(len(segment))
    matching = np.zeros(len(segment), dtype=np.bool_)
    for place, is_there, idf in zip(*segment.places(query.terms), query.idfs.tolist(), strict=True):
        if not is_there:
            continue
        here = slice(segment.starts[place], segment.starts[place + 1])
        rows, counts = segment.rows[here], segment.counts[here].astype(np.int32)
        scores[rows] += idf * (counts * (K1 + 1) / (counts + norms[rows]))
        matching[rows] = True
    matching &= segment.live
    found = np.flatnonzero(matching)
    if query.only is not None:
        found = found[np.isin(segment.document_ids[found], query.only)]
    return scores[found], segment.chunk_ids[found], segment.document_ids[found]


def _grouped(scores: Floats, chunks: Longs, documents: Longs, limit: int) -> Hits:
    """In order, the first of each document, up to `limit`."""
    order = np.lexsort((chunks, -scores))
    order = order[first_of_each(documents[order])[:limit]]
    return Hits(chunks[order], documents[order], scores[order])
