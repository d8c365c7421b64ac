"""What a search finds, as columns: a page shows ten of hundreds, so objects are made of those alone."""

from dataclasses import dataclass
from itertools import starmap
from typing import NamedTuple

import numpy as np

from knowledgebeast_service.search.bm25 import Floats
from knowledgebeast_service.search.segment import Longs


class Hit(NamedTuple):
    """A chunk with its score; larger is better."""

    chunk_id: int
    document_id: int
    score: float


@dataclass(frozen=True, eq=False)
class Hits:
    """The best chunk of each document, best first: three columns of equal length."""

    chunk_ids: Longs
    document_ids: Longs
    scores: Floats

    def __len__(self) -> int:
        return len(self.chunk_ids)

    def page(self, start: int = 0, end: int | None = None) -> list[Hit]:
        """Those from `start` to before `end`, as objects."""
        columns = (column[start:end].tolist() for column in (self.chunk_ids, self.document_ids, self.scores))
        return list(starmap(Hit, zip(*columns, strict=True)))


def first_of_each(documents: Longs) -> Longs:
    """Where each document stands for the first time, in order."""
    return np.sort(np.unique(documents, return_index=True)[1])


NO_HITS = Hits(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0))
