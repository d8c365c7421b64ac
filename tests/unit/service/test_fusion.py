from hypothesis import given
from hypothesis import strategies as st

from knowledgebeast_service.search.fusion import fuse_ranks, fuse_scores
from knowledgebeast_service.search.hits import NO_HITS, Hit, Hits
from written_hits import columns


def hits(*scores: tuple[int, float]) -> Hits:
    """Hits whose chunk is ten times the document."""
    return columns(*(Hit(document * 10, document, score) for document, score in scores))


def test_a_document_that_both_find_beats_one_that_is_first_in_one_list() -> None:
    keyword = hits((1, 9.0), (2, 8.0), (3, 0.0))
    vector = hits((4, 0.9), (2, 0.8), (3, 0.0))
    assert fuse_scores(keyword, vector).page()[0].document_id == 2
    assert fuse_ranks(keyword, vector).page()[0].document_id == 2


def test_scores_are_normalised_before_they_are_added() -> None:
    fused = {
        hit.document_id: hit.score for hit in fuse_scores(hits((1, 40.0), (2, 20.0)), hits((2, 0.9), (1, 0.8))).page()
    }
    assert fused == {1: 0.5, 2: 0.5}


def test_alpha_moves_the_weight() -> None:
    keyword, vector = hits((1, 2.0), (2, 1.0)), hits((2, 2.0), (1, 1.0))
    assert fuse_scores(keyword, vector, alpha=0.9).page()[0].document_id == 2
    assert fuse_scores(keyword, vector, alpha=0.1).page()[0].document_id == 1


def test_reciprocal_ranks_are_as_published() -> None:
    fused = fuse_ranks(hits((1, 5.0)), hits((2, 5.0), (1, 4.0)), k=60).page()
    assert [(hit.document_id, hit.score) for hit in fused] == [(1, 1 / 61 + 1 / 62), (2, 1 / 61)]


def test_the_chunk_shown_is_the_one_that_brought_in_more() -> None:
    keyword = columns(Hit(11, 1, 5.0), Hit(21, 2, 1.0))
    vector = columns(Hit(22, 2, 0.9), Hit(12, 1, 0.1))
    assert {hit.document_id: hit.chunk_id for hit in fuse_scores(keyword, vector).page()} == {1: 11, 2: 22}


def test_one_empty_side_leaves_the_other_in_order() -> None:
    keyword = hits((1, 3.0), (2, 2.0), (3, 1.0))
    assert [hit.document_id for hit in fuse_scores(keyword, NO_HITS).page()] == [1, 2, 3]
    assert fuse_scores(NO_HITS, NO_HITS).page() == []


def test_equal_scores_are_ordered_by_chunk() -> None:
    assert [hit.chunk_id for hit in fuse_scores(hits((3, 1.0), (1, 1.0), (2, 1.0)), NO_HITS).page()] == [10, 20, 30]


def one_by_one(keyword: list[Hit], vector: list[Hit]) -> list[Hit]:
    """The same by the words of the docstring, slowly."""

    def shares(side: list[Hit]) -> dict[int, tuple[float, int]]:
        scores = [hit.score for hit in side]
        low, high = min(scores, default=0), max(scores, default=0)
        return {
            hit.document_id: (0.5 * ((hit.score - low) / (high - low) if high > low else 1.0), hit.chunk_id)
            for hit in side
        }

    by_keyword, by_vector = shares(keyword), shares(vector)
    fused: list[Hit] = []
    for document in by_keyword.keys() | by_vector.keys():
        parts = [side[document] for side in (by_keyword, by_vector) if document in side]
        fused.append(Hit(max(parts, key=lambda part: part[0])[1], document, sum(share for share, _ in parts)))
    return sorted(fused, key=lambda hit: (-hit.score, hit.chunk_id))


ranking = st.dictionaries(st.integers(1, 12), st.integers(-4, 4), max_size=12)


@given(ranking, ranking)
def test_whole_rankings_fuse_as_documents_one_by_one_do(keyword: dict[int, int], vector: dict[int, int]) -> None:
    one = [Hit(document * 10, document, float(score)) for document, score in keyword.items()]
    other = [Hit(document * 10 + 1, document, float(score)) for document, score in vector.items()]
    assert fuse_scores(columns(*one), columns(*other)).page() == one_by_one(one, other)
