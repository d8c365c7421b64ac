"""A part of an inverted index in flat arrays: built once, searched by many threads, merged into larger ones.

`dead` chunks stay in the arrays until the next merge; `live` and `frequencies` are replaced as a whole when chunks
are removed, so a reader never sees half of a removal.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from knowledgebeast_service.storage.records import ChunkPostings, RemovedChunk

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]


@dataclass(frozen=True)
class Segment:
    """Chunks in ascending order of id, and their postings sorted by term, then by chunk.

    Term `terms[i]` has its postings at `starts[i]:starts[i + 1]` of `rows` (index of the chunk) and `counts`;
    `frequencies[i]` is the number of live chunks that hold it.
    """

    chunk_ids: Longs
    document_ids: Longs
    lengths: Ints
    live: NDArray[np.bool_]
    terms: Ints
    starts: Longs
    rows: Ints
    counts: Ints
    frequencies: Ints

    def __len__(self) -> int:
        return len(self.chunk_ids)

    def postings(self, term: int) -> tuple[Ints, Ints]:
        """(rows, counts) of a term; empty when no chunk has it."""
        place = self._place(term)
        if place is None:
            return self.rows[:0], self.counts[:0]
        start, end = self.starts[place], self.starts[place + 1]
        return self.rows[start:end], self.counts[start:end]

    def frequency(self, term: int) -> int:
        """Live chunks that hold the term."""
        place = self._place(term)
        return 0 if place is None else int(self.frequencies[place])

    def row_of(self, chunk_id: int) -> int | None:
        """Index of a live chunk, or None."""
        row = int(np.searchsorted(self.chunk_ids, chunk_id))
        found = row < len(self) and self.chunk_ids[row] == chunk_id and self.live[row]
        return row if found else None

    def without(self, removed: Sequence[RemovedChunk]) -> "Segment":
        """The segment with chunks marked dead; chunks that it does not hold are skipped."""
        hits = [(row, chunk.term_ids) for chunk in removed if (row := self.row_of(chunk.chunk_id)) is not None]
        if not hits:
            return self
        live = self.live.copy()
        live[[row for row, _ in hits]] = False
        frequencies = self.frequencies.copy()
        gone = np.concatenate([terms for _, terms in hits])
        np.subtract.at(frequencies, np.searchsorted(self.terms, gone), 1)
        return replace(self, live=live, frequencies=frequencies)

    def _place(self, term: int) -> int | None:
        place = int(np.searchsorted(self.terms, term))
        return place if place < len(self.terms) and self.terms[place] == term else None


def build_segment(chunks: Sequence[ChunkPostings]) -> Segment:
    """A segment of new chunks, in ascending order of id."""
    per_chunk = [len(chunk.term_ids) for chunk in chunks]
    return _assemble(
        chunk_ids=np.array([chunk.chunk_id for chunk in chunks], dtype=np.int64),
        document_ids=np.array([chunk.document_id for chunk in chunks], dtype=np.int64),
        lengths=np.array([chunk.length for chunk in chunks], dtype=np.int32),
        terms=_joined([chunk.term_ids for chunk in chunks]),
        rows=np.repeat(np.arange(len(chunks), dtype=np.int32), per_chunk),
        counts=_joined([chunk.counts for chunk in chunks]),
    )


def merge_segments(segments: Sequence[Segment]) -> Segment:
    """One segment of the live chunks of several, which must be in ascending order of ids."""
    terms: list[Ints] = []
    rows: list[Ints] = []
    counts: list[Ints] = []
    base = 0
    for segment in segments:
        keep = segment.live[segment.rows]
        new_row = (np.cumsum(segment.live) - 1 + base).astype(np.int32)
        terms.append(np.repeat(segment.terms, np.diff(segment.starts))[keep])
        rows.append(new_row[segment.rows[keep]])
        counts.append(segment.counts[keep])
        base += int(segment.live.sum())
    return _assemble(
        chunk_ids=np.concatenate([segment.chunk_ids[segment.live] for segment in segments]),
        document_ids=np.concatenate([segment.document_ids[segment.live] for segment in segments]),
        lengths=np.concatenate([segment.lengths[segment.live] for segment in segments]),
        terms=_joined(terms),
        rows=_joined(rows),
        counts=_joined(counts),
    )


def _joined(parts: Sequence[Ints]) -> Ints:
    return np.concatenate(parts).astype(np.int32, copy=False) if parts else np.empty(0, dtype=np.int32)


def _assemble(
    *, chunk_ids: Longs, document_ids: Longs, lengths: Ints, terms: Ints, rows: Ints, counts: Ints
) -> Segment:
    order = np.argsort(terms, kind="stable")  # stable: rows stay ascending within a term
    distinct, first, frequencies = np.unique(terms[order], return_index=True, return_counts=True)
    return Segment(
        chunk_ids=chunk_ids,
        document_ids=document_ids,
        lengths=lengths,
        live=np.ones(len(chunk_ids), dtype=np.bool_),
        terms=distinct,
        starts=np.append(first, len(terms)).astype(np.int64),
        rows=rows[order],
        counts=counts[order],
        frequencies=frequencies.astype(np.int32),
    )
