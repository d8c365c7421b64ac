"""rank-bm25 is the oracle: the same scores to 1e-9 and the same order up to ties, whatever was added and removed."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import cast
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rank_bm25 import BM25Okapi  # pyright: ignore[reportMissingTypeStubs]

from knowledgebeast_service.search import bm25
from knowledgebeast_service.search.bm25 import SMALL_COLLECTION
from knowledgebeast_service.search.keyword_index import KeywordIndex
from knowledgebeast_service.storage.records import ChunkPostings

TOLERANCE = 1e-9

terms = st.integers(min_value=1, max_value=12)
chunk = st.lists(terms, max_size=12)
batch = st.tuples(st.lists(chunk, max_size=8), st.lists(st.integers(min_value=0, max_value=40), max_size=4))


def postings(chunk_id: int, words: list[int], document_id: int | None = None) -> ChunkPostings:
    counted = sorted(Counter(words).items())
    return ChunkPostings(
        chunk_id,
        document_id or chunk_id,
        len(words),
        np.array([term for term, _ in counted], dtype=np.int32),
        np.array([count for _, count in counted], dtype=np.int32),
    )


def oracle(corpus: dict[int, list[int]], query: list[int]) -> dict[int, float]:
    """Scores of the chunks that hold a term of the query."""
    bm25 = BM25Okapi([[str(word) for word in words] for words in corpus.values()])
    scores = cast("Sequence[float]", bm25.get_scores([str(word) for word in query]))  # pyright: ignore[reportUnknownMemberType]
    return {
        chunk_id: float(score)
        for (chunk_id, words), score in zip(corpus.items(), scores, strict=True)
        if set(words) & set(query)
    }


def assert_equals_oracle(index: KeywordIndex, corpus: dict[int, list[int]], query: list[int]) -> None:
    expected = oracle(corpus, query)
    found = index.search(query, limit=len(corpus))
    assert {hit.chunk_id for hit in found} == set(expected)
    for hit in found:
        assert hit.score == pytest.approx(expected[hit.chunk_id], abs=TOLERANCE, rel=TOLERANCE)
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
    top = index.search(query, limit=3)
    assert [hit.score for hit in top] == [hit.score for hit in found[:3]]


@settings(max_examples=150, deadline=None)
@given(batches=st.lists(batch, min_size=1, max_size=10), query=st.lists(terms, min_size=1, max_size=6))
def test_scores_equal_rank_bm25_after_any_adds_and_removals(
    batches: list[tuple[list[list[int]], list[int]]], query: list[int]
) -> None:
    index = KeywordIndex()
    corpus: dict[int, list[int]] = {}
    next_id = 1
    for added, removed in batches:
        gone = [chunk_id for chunk_id in set(removed) if chunk_id in corpus]
        # Removals of unknown chunks come too: a replica may see one for a chunk that it never had.
        for chunk_id in gone:
            del corpus[chunk_id]
        fresh = {next_id + place: words for place, words in enumerate(added)}
        next_id += len(added)
        index = index.apply([postings(chunk_id, words) for chunk_id, words in fresh.items()], [*gone, 9999])
        corpus |= fresh
    if any(corpus.values()):
        with mock.patch.object(bm25, "SMALL_COLLECTION", 0):
            assert_equals_oracle(index, corpus, query)


def test_scores_equal_rank_bm25_at_the_size_where_okapi_begins() -> None:
    generator = np.random.default_rng(7)
    corpus = {
        chunk_id: [int(word) for word in generator.zipf(1.3, size=30) if word < 500]
        for chunk_id in range(1, 4 * SMALL_COLLECTION)
    }
    index = KeywordIndex().apply([postings(chunk_id, words) for chunk_id, words in corpus.items()], [])
    for query in ([1, 2, 3], [7, 7, 400], [499], [1]):
        assert_equals_oracle(index, corpus, query)


def test_below_fifty_chunks_lucenes_idf_is_used() -> None:
    """Okapi would score the only document of a project negative or zero."""
    index = KeywordIndex().apply([postings(1, [5, 6]), postings(2, [6])], [])
    assert index.idf(6) == pytest.approx(math.log(1 + 0.5 / 2.5))
    assert [hit.chunk_id for hit in index.search([5], limit=10)] == [1]
    assert index.search([5], limit=10)[0].score > 0


def test_a_chunk_is_found_by_its_posting_even_with_a_score_of_zero() -> None:
    half = SMALL_COLLECTION  # in exactly half of the chunks: Okapi's idf is log(1) = 0
    chunks = [postings(number, [1] if number <= half else [2]) for number in range(1, 2 * half + 1)]
    found = KeywordIndex().apply(chunks, []).search([1], limit=200)
    assert len(found) == half
    assert {hit.score for hit in found} == {0.0}


def test_ties_go_to_the_smaller_id_also_at_the_cut() -> None:
    index = KeywordIndex().apply([postings(number, [1]) for number in range(1, 40)], [])
    assert [hit.chunk_id for hit in index.search([1], limit=3)] == [1, 2, 3]


def test_one_result_for_each_document_by_its_best_chunk() -> None:
    chunks = [postings(1, [1, 2, 3, 4], 7), postings(2, [1, 1], 7), postings(3, [1, 2], 8)]
    found = KeywordIndex().apply(chunks, []).search([1], limit=10)
    assert [(hit.document_id, hit.chunk_id) for hit in found] == [(7, 2), (8, 3)]


def test_documents_with_many_good_chunks_do_not_crowd_out_the_others() -> None:
    many = [postings(number, [1], 1) for number in range(1, 100)]
    index = KeywordIndex().apply([*many, postings(100, [1, 2], 2)], [])
    assert {hit.document_id for hit in index.search([1], limit=2)} == {1, 2}


def test_only_allowed_documents_are_found() -> None:
    index = KeywordIndex().apply([postings(number, [1]) for number in range(1, 6)], [])
    assert [hit.chunk_id for hit in index.search([1], limit=5, only_documents=[2, 4])] == [2, 4]
    assert index.search([1], limit=5, only_documents=[]) == []


def test_an_older_index_is_untouched_by_later_changes() -> None:
    before = KeywordIndex().apply([postings(1, [1]), postings(2, [1])], [])
    after = before.apply([postings(3, [1])], [1])
    assert [hit.chunk_id for hit in before.search([1], limit=9)] == [1, 2]
    assert [hit.chunk_id for hit in after.search([1], limit=9)] == [2, 3]
    assert after.document_of(1) is None
    assert before.document_of(1) == 1


def test_segments_stay_few_while_chunks_come_one_by_one() -> None:
    index = KeywordIndex()
    for number in range(1, 300):
        index = index.apply([postings(number, [number % 7 + 1])], [])
    assert len(index.segments) <= math.ceil(math.log2(300)) + 1
    assert index.size == 299


def test_an_empty_index_finds_nothing() -> None:
    assert KeywordIndex().search([1, 2], limit=10) == []
    assert KeywordIndex().apply([postings(1, [])], []).search([1], limit=10) == []


def test_a_chunk_analysed_anew_takes_the_place_of_itself() -> None:
    """Removed and added again under the same id, between chunks of other segments."""
    words = {number: [1, number % 7 + 2] for number in range(1, 200)}
    index = KeywordIndex().apply([postings(chunk_id, some) for chunk_id, some in words.items()])
    for chunk_ids in (range(50, 90), range(3, 60), range(1, 200, 5)):
        fresh = {chunk_id: [*words[chunk_id], 8 + chunk_id % 3] for chunk_id in chunk_ids}
        index = index.apply([postings(chunk_id, some) for chunk_id, some in fresh.items()], list(fresh))
        words |= fresh
        assert_equals_oracle(index, words, [1, 4, 9])
        assert_equals_oracle(index.compacted(), words, [1, 4, 9])
    assert index.documents_of(np.array([7, 60, 500])).tolist() == [7, 60, -1]


def test_the_mean_idf_does_not_depend_on_how_the_index_came_about() -> None:
    """To the last bit: replicas must give the same scores, also one that started late."""
    generator = np.random.default_rng(3)
    chunks = [postings(number, generator.zipf(1.4, 20).clip(max=90).tolist()) for number in range(1, 300)]
    at_once = KeywordIndex().apply(chunks).apply([], [5, 6, 7])
    one_by_one = KeywordIndex()
    for chunk in chunks:
        one_by_one = one_by_one.apply([chunk])
    for gone in (7, 5, 6):
        one_by_one = one_by_one.apply([], [gone])
    assert one_by_one.mean_idf == at_once.mean_idf
    terms = np.unique(np.concatenate([chunk.term_ids for chunk in chunks if chunk.chunk_id not in {5, 6, 7}]))
    frequencies = [sum(term in chunk.term_ids for chunk in chunks if chunk.chunk_id not in {5, 6, 7}) for term in terms]
    expected = np.mean([math.log(296 - n + 0.5) - math.log(n + 0.5) for n in frequencies])
    assert at_once.mean_idf == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("chunks", [SMALL_COLLECTION - 1, SMALL_COLLECTION])
def test_okapi_begins_at_fifty_chunks(chunks: int) -> None:
    """On either side of the boundary, for a rare term, one in half of the chunks and one in all."""
    index = KeywordIndex().apply(
        [postings(number, [1, 2 + number % 2, *([9] if number == 1 else [])]) for number in range(1, chunks + 1)]
    )
    if chunks < SMALL_COLLECTION:
        for term, frequency in ((9, 1), (2, chunks // 2), (1, chunks)):
            assert index.idf(term) == pytest.approx(math.log(1 + (chunks - frequency + 0.5) / (frequency + 0.5)))
    else:
        assert index.idf(9) == pytest.approx(math.log(chunks - 0.5) - math.log(1.5))
        assert index.idf(2) == 0.0
        assert index.idf(1) == pytest.approx(0.25 * index.mean_idf)
