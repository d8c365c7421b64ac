"""The inner loops of keyword search in the part of Python that numba compiles. Imported only by `kernel`, late.

No `fastmath`: the additions and divisions are those of numpy and of rank-bm25, in the same order.
"""

from collections.abc import Callable
from typing import TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from knowledgebeast_service.search.bm25 import K1, Floats
from knowledgebeast_service.search.kernel import Kernel
from knowledgebeast_service.search.segment import Counts, Ints, Longs

Function = TypeVar("Function", bound=Callable[..., object])
Flags = NDArray[np.uint8]
Words = NDArray[np.uint64]
Bools = NDArray[np.bool_]

ROWS_IN_A_WORD = 8
SIGNATURES = {
    "add_frequencies": "void(i4[::1], i4[::1], i4[::1], i8[::1])",
    "rank_segment": (
        "i8(i4[::1], i8[::1], i4[::1], u2[::1], f8[::1], b1[::1], i8[::1], i8[::1], "
        "i4[::1], f8[::1], i8[::1], b1, f8[::1], u1[::1], u8[::1], f8[::1], i8[::1], i8[::1], i8)"
    ),
}


def inner(function: Function) -> Function:
    """Compiled into its callers."""
    return cast("Function", numba.njit(function, nogil=True, error_model="numpy"))


@inner
def find(terms: Ints, term: int) -> int:
    """Place of a term, or -1."""
    low, high = 0, len(terms)
    while low < high:
        middle = (low + high) >> 1
        if terms[middle] < term:
            low = middle + 1
        else:
            high = middle
    return low if low < len(terms) and terms[low] == term else -1


@inner
def holds(sorted_ids: Longs, wanted: int) -> bool:
    """Whether a sorted array holds a number."""
    low, high = 0, len(sorted_ids)
    while low < high:
        middle = (low + high) >> 1
        if sorted_ids[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low < len(sorted_ids) and sorted_ids[low] == wanted


@inner
def is_worse(score: float, chunk: int, other_score: float, other_chunk: int) -> bool:
    """A lower score, or an equal one of a later chunk."""
    return score < other_score or (score == other_score and chunk > other_chunk)


@inner
def offer(scores: Floats, chunks: Longs, documents: Longs, size: int, score: float, chunk: int, document: int) -> int:
    """Put into a heap whose root is the worst, in its place when it is full; returns the heap's size."""
    at = size
    if size < len(scores):
        size += 1
        while at > 0:
            parent = (at - 1) >> 1
            if not is_worse(score, chunk, scores[parent], chunks[parent]):
                break
            scores[at], chunks[at], documents[at] = scores[parent], chunks[parent], documents[parent]
            at = parent
    else:
        if is_worse(score, chunk, scores[0], chunks[0]):
            return size
        at = 0
        while 2 * at + 1 < size:
            child = 2 * at + 1
            if child + 1 < size and is_worse(scores[child + 1], chunks[child + 1], scores[child], chunks[child]):
                child += 1
            if not is_worse(scores[child], chunks[child], score, chunk):
                break
            scores[at], chunks[at], documents[at] = scores[child], chunks[child], documents[child]
            at = child
    scores[at], chunks[at], documents[at] = score, chunk, document
    return size


def add_frequencies(terms: Ints, frequencies: Ints, query: Ints, totals: Longs) -> None:
    """Add the segment's frequency of each term of the query."""
    for place in range(len(query)):
        found = find(terms, query[place])
        if found >= 0:
            totals[place] += frequencies[found]


def rank_segment(
    terms: Ints,
    starts: Longs,
    rows: Ints,
    counts: Counts,
    norms: Floats,
    live: Bools,
    chunk_ids: Longs,
    document_ids: Longs,
    query: Ints,
    idfs: Floats,
    allowed: Longs,
    is_filtered: bool,
    scores: Floats,
    matched: Flags,
    matched_words: Words,
    best_scores: Floats,
    best_chunks: Longs,
    best_documents: Longs,
    size: int,
) -> int:
    """Offer the segment's matching chunks to the heap `best_*`, one of each run of a document; returns its size.

    `matched_words` are the bytes of `matched`, eight at a time (little-endian). Both and `scores` are scratch, which
    comes and goes as zeros.
    """
    for place in range(len(query)):
        found = find(terms, query[place])
        if found < 0:
            continue
        idf = idfs[place]
        for at in range(starts[found], starts[found + 1]):
            row = rows[at]
            count = counts[at]
            scores[row] += idf * (count * (K1 + 1) / (count + norms[row]))
            matched[row] = 1
    limit = len(best_scores)
    run_document, run_score, run_chunk = -1, 0.0, -1
    for word_at in range((len(live) + ROWS_IN_A_WORD - 1) // ROWS_IN_A_WORD):
        word = matched_words[word_at]
        if word == 0:
            continue
        matched_words[word_at] = 0
        for lane in range(ROWS_IN_A_WORD):
            if (word >> np.uint64(8 * lane)) & np.uint64(1) == 0:
                continue
            row = word_at * ROWS_IN_A_WORD + lane
            score = scores[row]
            scores[row] = 0.0
            if (size == limit and score < best_scores[0]) or not live[row]:
                continue
            document = document_ids[row]
            if document == run_document:
                if score > run_score:  # rows ascend by chunk id: of equals the first stays
                    run_score, run_chunk = score, chunk_ids[row]
                continue
            if is_filtered and not holds(allowed, document):
                continue
            if run_chunk >= 0:
                size = offer(best_scores, best_chunks, best_documents, size, run_score, run_chunk, run_document)
            run_document, run_score, run_chunk = document, score, chunk_ids[row]
    if run_chunk >= 0:
        size = offer(best_scores, best_chunks, best_documents, size, run_score, run_chunk, run_document)
    return size


def build(*, is_cached: bool) -> Kernel:
    """Compile for the signatures above.

    Raises:
        RuntimeError: it is to be kept, and no folder can be written to.
        OSError: there is no space to keep it.
    """

    def made(function: Function) -> Function:
        decorate = numba.njit(SIGNATURES[function.__name__], nogil=True, error_model="numpy", cache=is_cached)
        return cast("Function", decorate(function))

    return Kernel(add_frequencies=made(add_frequencies), rank_segment=made(rank_segment))
