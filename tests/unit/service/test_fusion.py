from knowledgebeast_service.search.fusion import fuse_ranks, fuse_scores
from knowledgebeast_service.search.keyword_index import Hit


def hits(*scores: tuple[int, float]) -> list[Hit]:
    """Hits whose chunk is ten times the document."""
    return [Hit(document * 10, document, score) for document, score in scores]


def test_a_document_that_both_find_beats_one_that_is_first_in_one_list() -> None:
    keyword = hits((1, 9.0), (2, 8.0), (3, 0.0))
    vector = hits((4, 0.9), (2, 0.8), (3, 0.0))
    assert fuse_scores(keyword, vector)[0].document_id == 2
    assert fuse_ranks(keyword, vector)[0].document_id == 2


def test_scores_are_normalised_before_they_are_added() -> None:
    fused = {hit.document_id: hit.score for hit in fuse_scores(hits((1, 40.0), (2, 20.0)), hits((2, 0.9), (1, 0.8)))}
    assert fused == {1: 0.5, 2: 0.5}


def test_alpha_moves_the_weight() -> None:
    keyword, vector = hits((1, 2.0), (2, 1.0)), hits((2, 2.0), (1, 1.0))
    assert fuse_scores(keyword, vector, alpha=0.9)[0].document_id == 2
    assert fuse_scores(keyword, vector, alpha=0.1)[0].document_id == 1


def test_reciprocal_ranks_are_as_published() -> None:
    fused = fuse_ranks(hits((1, 5.0)), hits((2, 5.0), (1, 4.0)), k=60)
    assert [(hit.document_id, hit.score) for hit in fused] == [(1, 1 / 61 + 1 / 62), (2, 1 / 61)]


def test_the_chunk_shown_is_the_one_that_brought_in_more() -> None:
    keyword = [Hit(11, 1, 5.0), Hit(21, 2, 1.0)]
    vector = [Hit(22, 2, 0.9), Hit(12, 1, 0.1)]
    assert {hit.document_id: hit.chunk_id for hit in fuse_scores(keyword, vector)} == {1: 11, 2: 22}


def test_one_empty_side_leaves_the_other_in_order() -> None:
    keyword = hits((1, 3.0), (2, 2.0), (3, 1.0))
    assert [hit.document_id for hit in fuse_scores(keyword, [])] == [1, 2, 3]
    assert fuse_scores([], []) == []


def test_equal_scores_are_ordered_by_chunk() -> None:
    assert [hit.chunk_id for hit in fuse_scores(hits((3, 1.0), (1, 1.0), (2, 1.0)), [])] == [10, 20, 30]
