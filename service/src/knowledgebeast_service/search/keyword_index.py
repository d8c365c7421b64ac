"""BM25 over an inverted index, with exactly the arithmetic of rank-bm25's BM25Okapi (`bm25`).

The index is immutable: `apply` returns a new one that shares what did not change, so queries never lock. New chunks
become a small segment; neighbours of similar size are merged, as in a log-structured merge tree (O'Neil et al. 1996).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from knowledgebeast_service.search import bm25, kernel
from knowledgebeast_service.search.hits import NO_HITS, Hit, Hits
from knowledgebeast_service.search.ranking import Query, by_kernel, by_numpy
from knowledgebeast_service.search.segment import Segment, build_segment, merge_segments
from knowledgebeast_service.storage.records import ChunkPostings, PostingColumns, posting_columns

MERGE_RATIO = 2  # a segment is merged into its elder neighbour once that is less than so many times larger
DEAD_SHARE_TO_MERGE = 0.2


@dataclass(frozen=True)
class KeywordIndex:
    """The chunks of one project; no two segments hold the same live chunk.

    `terms_by_frequency[f]` is the number of terms that f live chunks hold (f > 0); it may end in zeros.
    """

    segments: tuple[Segment, ...] = ()
    terms_by_frequency: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, dtype=np.int64))

    @cached_property
    def size(self) -> int:
        """Live chunks."""
        return sum(segment.size for segment in self.segments)

    @cached_property
    def mean_length(self) -> float:
        """Terms in a chunk, on average; 0 for an empty index."""
        return sum(segment.total_length for segment in self.segments) / self.size if self.size else 0.0

    @cached_property
    def mean_idf(self) -> float:
        """Mean of Okapi's idf over all terms in use, the negative ones included."""
        return bm25.mean_idf(self.size, self.terms_by_frequency)

    @cached_property
    def norms(self) -> tuple[NDArray[np.float64], ...]:
        """Of the chunks of each segment."""
        # Without any term in the index no posting will ask for its chunk's norm.
        return tuple(bm25.norms(segment.lengths, self.mean_length or 1.0) for segment in self.segments)

    @cached_property
    def is_narrow(self) -> bool:
        """Whether the compiled code can read every segment."""
        return all(segment.is_narrow for segment in self.segments)

    def apply(
        self, added: Sequence[ChunkPostings] | PostingColumns, removed: Sequence[int] | NDArray[np.int64] = ()
    ) -> "KeywordIndex":
        """The index after chunks were removed (unknown ids are skipped), then others added."""
        columns = added if isinstance(added, PostingColumns) else posting_columns(added)
        gone = np.asarray(removed, dtype=np.int64)
        segments = [segment.without(gone) for segment in self.segments] if len(gone) else list(self.segments)
        if len(columns.chunk_ids):
            segments.append(build_segment(columns))
        touched = np.unique(np.concatenate([columns.term_ids, *map(_changed_terms, self.segments, segments)]))
        before, after = _frequencies(self.segments, touched), _frequencies(segments, touched)
        return KeywordIndex(_merged(segments), _moved(self.terms_by_frequency, before, after))

    def compacted(self) -> "KeywordIndex":
        """The same in one segment without dead chunks."""
        is_compact = len(self.segments) < 2 and all(segment.size == len(segment) for segment in self.segments)
        return self if is_compact else KeywordIndex((merge_segments(self.segments),), self.terms_by_frequency)

    def documents_of(self, chunk_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The documents of many chunks at once; -1 for a chunk that is not live."""
        documents = np.full(len(chunk_ids), -1, dtype=np.int64)
        for segment in self.segments:
            rows = segment.rows_of(chunk_ids)
            documents[rows >= 0] = segment.document_ids[rows[rows >= 0]]
        return documents

    def document_of(self, chunk_id: int) -> int | None:
        """The document of a live chunk, or None."""
        document = int(self.documents_of(np.array([chunk_id], dtype=np.int64))[0])
        return None if document < 0 else document

    def idf(self, term: int) -> float:
        """Weight of a term; 0 for one that no chunk has."""
        return float(self._idfs(np.array([term], dtype=np.int32), kernel.compiled())[0])

    def search(self, terms: Sequence[int], limit: int, only_documents: Sequence[int] | None = None) -> list[Hit]:
        """`rank`, as objects."""
        return self.rank(terms, limit, only_documents).page()

    def rank(self, terms: Sequence[int], limit: int, only_documents: Sequence[int] | None = None) -> Hits:
        """The best chunk of each of the `limit` best documents; ties go to the smaller chunk id.

        A chunk is found when it holds a term, whatever its score: Okapi's may be zero or negative.
        """
        if not terms or not self.segments or limit <= 0:
            return NO_HITS
        fast = kernel.compiled() if self.is_narrow else None
        query_terms = np.array(terms, dtype=np.int32)
        only = None if only_documents is None else np.unique(np.asarray(only_documents, dtype=np.int64))
        query = Query(query_terms, self._idfs(query_terms, fast), limit, only)
        if fast is None:
            return by_numpy(self.segments, self.norms, query)
        return by_kernel(fast, self.segments, self.norms, query)

    def _idfs(self, terms: NDArray[np.int32], fast: kernel.Kernel | None) -> NDArray[np.float64]:
        totals = np.zeros(len(terms), dtype=np.int64)
        for segment in self.segments:
            if fast is None:
                totals += segment.frequencies_of(terms)
            else:
                fast.add_frequencies(segment.terms, segment.frequencies, terms, totals)
        return np.array([bm25.idf(self.size, frequency, self.mean_idf) for frequency in totals.tolist()])


def _changed_terms(before: Segment, after: Segment) -> NDArray[np.int32]:
    return before.terms[:0] if before is after else before.terms[before.frequencies != after.frequencies]


def _frequencies(segments: Sequence[Segment], terms: NDArray[np.int32]) -> NDArray[np.int64]:
    totals = np.zeros(len(terms), dtype=np.int64)
    for segment in segments:
        totals += segment.frequencies_of(terms)
    return totals


def _moved(histogram: NDArray[np.int64], before: NDArray[np.int64], after: NDArray[np.int64]) -> NDArray[np.int64]:
    """The histogram when terms go from one frequency each to another; frequency 0 is not counted."""
    length = max(len(histogram), int(after.max(initial=0)) + 1)
    moved = np.bincount(after, minlength=length) - np.bincount(before, minlength=length)
    moved[: len(histogram)] += histogram
    moved[0] = 0
    return moved


def _merged(segments: list[Segment]) -> tuple[Segment, ...]:
    while len(segments) > 1 and len(segments[-2]) < MERGE_RATIO * len(segments[-1]):
        segments[-2:] = [merge_segments(segments[-2:])]
    tidy = (segment if _is_mostly_live(segment) else merge_segments([segment]) for segment in segments)
    return tuple(segment for segment in tidy if len(segment))


def _is_mostly_live(segment: Segment) -> bool:
    return len(segment) - segment.size <= DEAD_SHARE_TO_MERGE * len(segment)
