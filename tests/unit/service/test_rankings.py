import numpy as np

from knowledgebeast_service.search.hits import Hit
from knowledgebeast_service.search.keyword_index import KeywordIndex
from knowledgebeast_service.search.rankings import best_chunks, continued
from knowledgebeast_service.search.vector_store import Neighbours
from knowledgebeast_service.storage.records import ChunkPostings
from written_hits import columns


def index(*documents_of_chunks: tuple[int, int]) -> KeywordIndex:
    one = np.array([1], dtype=np.int32)
    return KeywordIndex().apply(
        [ChunkPostings(chunk, document, 1, one, one) for chunk, document in documents_of_chunks], []
    )


def test_a_document_stands_where_its_nearest_chunk_stands() -> None:
    neighbours = Neighbours.of([(3, 0.1), (1, 0.2), (2, 0.3)])
    ranking = best_chunks(neighbours, index((1, 10), (2, 20), (3, 20)), is_cut=False)
    assert [(hit.chunk_id, hit.document_id) for hit in ranking.hits.page()] == [(3, 20), (1, 10)]
    assert ranking.hits.page()[0].score == 0.9


def test_chunks_that_are_no_longer_here_are_left_out() -> None:
    neighbours = Neighbours.of([(7, 0.1), (1, 0.2), (99, 0.3)])
    assert [hit.chunk_id for hit in best_chunks(neighbours, index((1, 10)), is_cut=False).hits.page()] == [1]
    assert best_chunks(neighbours, KeywordIndex(), is_cut=False).hits.page() == []


def test_deeper_pages_never_repeat_or_reorder_what_was_shown() -> None:
    near = columns(Hit(1, 10, 0.9), Hit(2, 20, 0.5))
    deep = columns(Hit(2, 20, 0.8), Hit(3, 30, 0.7), Hit(1, 10, 0.6), Hit(4, 40, 0.1))
    assert [hit.document_id for hit in continued(near, deep).page()] == [10, 20, 30, 40]
