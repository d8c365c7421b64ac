"""BM25 over an inverted index, with exactly the arithmetic of rank-bm25's BM25Okapi.

The index is immutable: `apply` returns a new one that shares what did not change, so queries never lock. New chunks
become a small segment; neighbours of similar size are merged, as in a log-structured merge tree (O'Neil et al. 1996).

Score of a chunk (Trotman et al. 2014, "Improvements to BM25 and Language Models Examined"), summed over the query's
terms in their order, repeats kept:  idf · tf · (k1 + 1) / (tf + k1 · (1 - b + b · length / mean length)).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from knowledgebeast_service.search.segment import Segment, build_segment, merge_segments
from knowledgebeast_service.storage.records import ChunkPostings, RemovedChunk

K1 = 1.5
B = 0.75
EPSILON = 0.25  # BM25Okapi's floor: a term in over half of the chunks counts as this share of the mean idf
# Okapi's idf is zero or negative for most terms of a handful of chunks; below this many, Lucene's is used.
SMALL_COLLECTION = 50
MERGE_RATIO = 2  # a segment is merged into its elder neighbour once that is less than so many times larger
DEAD_SHARE_TO_MERGE = 0.2

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Hit:
    """A chunk with its score; larger is better."""

    chunk_id: int
    document_id: int
    score: float


@dataclass(frozen=True)
class KeywordIndex:
    """The chunks of one project; segments hold ascending, disjoint ranges of chunk ids."""

    segments: tuple[Segment, ...] = ()

    @cached_property
    def size(self) -> int:
        """Live chunks."""
        return sum(int(segment.live.sum()) for segment in self.segments)

    @cached_property
    def mean_length(self) -> float:
        """Terms in a chunk, on average; 0 for an empty index."""
        total = sum(int(segment.lengths[segment.live].sum()) for segment in self.segments)
        return total / self.size if self.size else 0.0

    @cached_property
    def mean_idf(self) -> float:
        """Mean of Okapi's idf over all terms in use, the negative ones included."""
        if not self.size:
            return 0.0
        terms = np.concatenate([segment.terms for segment in self.segments])
        per_segment = np.concatenate([segment.frequencies for segment in self.segments])
        _, place = np.unique(terms, return_inverse=True)
        frequencies = np.bincount(place, weights=per_segment)
        frequencies = frequencies[frequencies > 0]
        return float(np.mean(np.log(self.size - frequencies + 0.5) - np.log(frequencies + 0.5)))

    def apply(self, added: Sequence[ChunkPostings], removed: Sequence[RemovedChunk]) -> "KeywordIndex":
        """The index after changes; a removal of an unknown chunk is skipped."""
        segments = [segment.without(removed) for segment in self.segments] if removed else list(self.segments)
        if added:
            segments.append(build_segment(added))
        return KeywordIndex(_merged(segments))

    def document_of(self, chunk_id: int) -> int | None:
        """The document of a live chunk, or None."""
        for segment in self.segments:
            row = segment.row_of(chunk_id)
            if row is not None:
                return int(segment.document_ids[row])
        return None

    def idf(self, term: int) -> float:
        """Weight of a term; 0 for one that no chunk has."""
        frequency = sum(segment.frequency(term) for segment in self.segments)
        if frequency == 0:
            return 0.0
        if self.size < SMALL_COLLECTION:
            return math.log(1 + (self.size - frequency + 0.5) / (frequency + 0.5))
        idf = math.log(self.size - frequency + 0.5) - math.log(frequency + 0.5)
        return idf if idf >= 0 else EPSILON * self.mean_idf

    def search(self, terms: Sequence[int], limit: int, only_documents: Sequence[int] | None = None) -> list[Hit]:
        """The best chunk of each of the `limit` best documents; ties go to the smaller chunk id.

        A chunk is found when it holds a term, whatever its score: Okapi's may be zero or negative.
        """
        parts = [self._score(segment, terms, only_documents) for segment in self.segments]
        if not parts:
            return []
        scores = np.concatenate([score for score, _, _ in parts])
        chunk_ids = np.concatenate([chunk for _, chunk, _ in parts])
        document_ids = np.concatenate([document for _, _, document in parts])
        return _best(scores, chunk_ids, document_ids, limit)

    def _score(
        self, segment: Segment, terms: Sequence[int], only_documents: Sequence[int] | None
    ) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
        """(scores, chunk ids, document ids) of the segment's matching chunks."""
        scores = np.zeros(len(segment))
        matching = np.zeros(len(segment), dtype=np.bool_)
        for term in terms:
            rows, counts = segment.postings(term)
            if len(rows) == 0:
                continue
            saturation = counts + K1 * (1 - B + B * segment.lengths[rows] / self.mean_length)
            scores[rows] += self.idf(term) * (counts * (K1 + 1) / saturation)
            matching[rows] = True
        matching &= segment.live
        if only_documents is not None:
            matching &= np.isin(segment.document_ids, np.asarray(only_documents, dtype=np.int64))
        rows_found = np.flatnonzero(matching)
        return scores[rows_found], segment.chunk_ids[rows_found], segment.document_ids[rows_found]


def _best(scores: Floats, chunk_ids: NDArray[np.int64], document_ids: NDArray[np.int64], limit: int) -> list[Hit]:
    """Grouped by document. Most documents have few chunks among the best, so a few times `limit` usually do."""
    for candidates in (4 * limit, len(scores)):
        if candidates < len(scores):
            threshold = np.partition(scores, len(scores) - candidates)[len(scores) - candidates]
            chosen = np.flatnonzero(scores >= threshold)
        else:
            chosen = np.arange(len(scores))
        order = chosen[np.lexsort((chunk_ids[chosen], -scores[chosen]))]
        best: dict[int, Hit] = {}
        for row in order.tolist():
            document_id = int(document_ids[row])
            if document_id not in best:
                best[document_id] = Hit(int(chunk_ids[row]), document_id, float(scores[row]))
                if len(best) == limit:
                    break
        if len(best) == limit or len(chosen) == len(scores):
            return list(best.values())
    return []


def _merged(segments: list[Segment]) -> tuple[Segment, ...]:
    while len(segments) > 1 and len(segments[-2]) < MERGE_RATIO * len(segments[-1]):
        segments[-2:] = [merge_segments(segments[-2:])]
    tidy = (segment if _is_mostly_live(segment) else merge_segments([segment]) for segment in segments)
    return tuple(segment for segment in tidy if len(segment))


def _is_mostly_live(segment: Segment) -> bool:
    return len(segment) - int(segment.live.sum()) <= DEAD_SHARE_TO_MERGE * len(segment)
