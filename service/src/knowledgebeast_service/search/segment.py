"""A part of an inverted index in flat arrays: built once, searched by many threads, merged into larger ones.

`dead` chunks stay in the arrays until the next merge; `live` and `frequencies` are replaced as a whole when chunks
are removed, so a reader never sees half of a removal.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from knowledgebeast_service.storage.records import ChunkPostings, PostingColumns, posting_columns

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]
# Two bytes do for any chunk of a sensible length; four where a count does not fit.
Counts = NDArray[np.uint16 | np.int32]


@dataclass(frozen=True)
class Segment:
    """Chunks in ascending order of id, and their postings sorted by term.

    Term `terms[i]` has its postings, at least one, at `starts[i]:starts[i + 1]` of `rows` (index of the chunk) and
    `counts`; `frequencies[i]` is the number of live chunks that hold it.
    """

    chunk_ids: Longs
    document_ids: Longs
    lengths: Ints
    live: NDArray[np.bool_]
    terms: Ints
    starts: Longs
    rows: Ints
    counts: Counts
    frequencies: Ints

    def __len__(self) -> int:
        return len(self.chunk_ids)

    @cached_property
    def size(self) -> int:
        """Live chunks."""
        return int(np.count_nonzero(self.live))

    @cached_property
    def total_length(self) -> int:
        """Terms in the live chunks, repeats counted."""
        return int(self.lengths[self.live].sum(dtype=np.int64))

    @property
    def is_narrow(self) -> bool:
        """Whether every count fits into two bytes."""
        return self.counts.dtype == np.uint16

    def places(self, terms: Ints) -> tuple[Longs, NDArray[np.bool_]]:
        """(index into `terms` of the segment, whether it is there) of each."""
        if not len(self.terms):
            return np.zeros(len(terms), dtype=np.int64), np.zeros(len(terms), dtype=np.bool_)
        places = np.minimum(self.terms.searchsorted(terms), len(self.terms) - 1)
        return places, self.terms[places] == terms

    def frequencies_of(self, terms: Ints) -> Longs:
        """Live chunks that hold each of the terms."""
        places, is_there = self.places(terms)
        if not len(self.terms):
            return places
        return np.where(is_there, self.frequencies[places], 0)

    def rows_of(self, chunk_ids: Longs) -> Longs:
        """Index of each chunk; -1 for one that is not here or is dead."""
        if not len(self):
            return np.full(len(chunk_ids), -1, dtype=np.int64)
        rows = np.minimum(self.chunk_ids.searchsorted(chunk_ids), len(self) - 1)
        return np.where((self.chunk_ids[rows] == chunk_ids) & self.live[rows], rows, -1)

    def without(self, chunk_ids: Longs) -> "Segment":
        """The segment with chunks marked dead; chunks that it does not hold are skipped.

        Their terms are looked up here and not taken from whoever removes them, so that frequencies stay true to these
        postings even where the database has others for the chunk by now.
        """
        rows = self.rows_of(chunk_ids)
        rows = rows[rows >= 0]
        if not len(rows):
            return self
        is_gone = np.zeros(len(self), dtype=np.bool_)
        is_gone[rows] = True
        lost = self.starts.searchsorted(np.flatnonzero(is_gone[self.rows]), side="right") - 1
        fewer = np.bincount(lost, minlength=len(self.terms)).astype(np.int32)
        return replace(self, live=self.live & ~is_gone, frequencies=self.frequencies - fewer)


def build_segment(chunks: Sequence[ChunkPostings] | PostingColumns) -> Segment:
    """A segment of new chunks, in ascending order of id."""
    columns = chunks if isinstance(chunks, PostingColumns) else posting_columns(chunks)
    rows = np.repeat(np.arange(len(columns.chunk_ids), dtype=np.int32), columns.sizes)
    # By term, then by position: sorting one integer made of both is several times faster than a stable argsort.
    order = np.sort((columns.term_ids.astype(np.int64) << 32) | np.arange(len(rows))) & 0xFFFFFFFF
    terms, first, frequencies = np.unique(columns.term_ids[order], return_index=True, return_counts=True)
    return Segment(
        chunk_ids=columns.chunk_ids,
        document_ids=columns.document_ids,
        lengths=columns.lengths,
        live=np.ones(len(columns.chunk_ids), dtype=np.bool_),
        terms=terms,
        starts=np.append(first, len(rows)).astype(np.int64),
        rows=rows[order],
        counts=_narrowed(columns.counts[order]),
        frequencies=frequencies.astype(np.int32),
    )


def merge_segments(segments: Sequence[Segment]) -> Segment:
    """One segment of the live chunks of several.

    Every posting is copied once to the place that its term and segment give it; only terms and chunk ids are sorted.
    """
    terms = np.unique(np.concatenate([segment.terms[segment.frequencies > 0] for segment in segments]))
    sizes = [np.zeros(len(terms), dtype=np.int64) for _ in segments]
    for size, segment in zip(sizes, segments, strict=True):
        is_used = segment.frequencies > 0
        size[terms.searchsorted(segment.terms[is_used])] = segment.frequencies[is_used]
    starts = np.append(0, np.cumsum(np.stack(sizes).sum(axis=0)))
    rows = np.empty(int(starts[-1]), dtype=np.int32)
    is_narrow = all(segment.is_narrow for segment in segments)
    counts = np.empty(len(rows), dtype=np.uint16 if is_narrow else np.int32)
    begin = starts[:-1].copy()
    chunk_ids = np.concatenate([segment.chunk_ids[segment.live] for segment in segments])
    order = np.argsort(chunk_ids, kind="stable")
    new_rows = np.empty(len(order), dtype=np.int32)
    new_rows[order] = np.arange(len(order), dtype=np.int32)
    base = 0
    for size, segment in zip(sizes, segments, strict=True):
        shift = np.repeat(begin - (np.cumsum(size) - size), size)
        places = shift + np.arange(len(shift))
        renumbered = np.full(len(segment), -1, dtype=np.int32)
        renumbered[segment.live] = new_rows[base : base + segment.size]
        moved = renumbered[segment.rows]
        is_kept = slice(None) if segment.size == len(segment) else moved >= 0
        rows[places] = moved[is_kept]
        counts[places] = segment.counts[is_kept]
        begin += size
        base += segment.size
    return Segment(
        chunk_ids=chunk_ids[order],
        document_ids=np.concatenate([segment.document_ids[segment.live] for segment in segments])[order],
        lengths=np.concatenate([segment.lengths[segment.live] for segment in segments])[order],
        live=np.ones(base, dtype=np.bool_),
        terms=terms,
        starts=starts,
        rows=rows,
        counts=counts,
        frequencies=np.diff(starts).astype(np.int32),
    )


def _narrowed(counts: Ints) -> Counts:
    fits = not len(counts) or int(counts.max()) <= np.iinfo(np.uint16).max
    return counts.astype(np.uint16) if fits else counts
