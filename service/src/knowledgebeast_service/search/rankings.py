"""Rankings of documents on their way to a page. Pure."""

from dataclasses import dataclass

import numpy as np

from knowledgebeast_service.search.hits import Hits, first_of_each
from knowledgebeast_service.search.keyword_index import KeywordIndex
from knowledgebeast_service.search.vector_store import Neighbours


@dataclass(frozen=True)
class Ranking:
    """`is_cut` = there may be more below."""

    hits: Hits
    is_cut: bool


def best_chunks(neighbours: Neighbours, index: KeywordIndex, *, is_cut: bool) -> Ranking:
    """Neighbours as documents; chunks deleted here but not yet in Chroma are left out."""
    chunks, distances = neighbours.chunk_ids, neighbours.distances
    documents = index.documents_of(chunks)
    live = np.flatnonzero(documents >= 0)
    best = live[first_of_each(documents[live])]
    return Ranking(Hits(chunks[best], documents[best], 1 - distances[best]), is_cut)


def continued(near: Hits, deep: Hits) -> Hits:
    """`near` as it is, then what only the deeper search has found.

    A deeper search normalises other scores and orders the first documents anew; taken alone it would repeat documents
    of earlier pages and lose others.
    """
    new = ~np.isin(deep.document_ids, near.document_ids)
    return Hits(
        np.concatenate([near.chunk_ids, deep.chunk_ids[new]]),
        np.concatenate([near.document_ids, deep.document_ids[new]]),
        np.concatenate([near.scores, deep.scores[new]]),
    )
