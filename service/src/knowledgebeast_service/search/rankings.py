"""Rankings of documents on their way to a page. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from knowledgebeast_service.search.keyword_index import Hit, KeywordIndex
from knowledgebeast_service.search.vector_store import Neighbour


@dataclass(frozen=True)
class Ranking:
    """Best chunk of each document, best first; `is_cut` = there may be more below."""

    hits: Sequence[Hit]
    is_cut: bool


def best_chunks(neighbours: Sequence[Neighbour], index: KeywordIndex, *, is_cut: bool) -> Ranking:
    """Neighbours, nearest first, as documents; chunks deleted here but not yet in Chroma are left out."""
    documents = index.documents_of(chunk_ids(neighbours))
    best: dict[int, Hit] = {}
    for neighbour, document_id in zip(neighbours, documents.tolist(), strict=True):
        if document_id >= 0 and document_id not in best:
            best[document_id] = Hit(neighbour.chunk_id, document_id, 1 - neighbour.distance)
    return Ranking(list(best.values()), is_cut)


def continued(near: Sequence[Hit], deep: Sequence[Hit]) -> list[Hit]:
    """`near` as it is, then what only the deeper search has found.

    A deeper search normalises other scores and orders the first documents anew; taken alone it would repeat documents
    of earlier pages and lose others.
    """
    shown = {hit.document_id for hit in near}
    return [*near, *(hit for hit in deep if hit.document_id not in shown)]


def chunk_ids(neighbours: Sequence[Neighbour]) -> NDArray[np.int64]:
    return np.fromiter((one.chunk_id for one in neighbours), np.int64, len(neighbours))
