"""The compiled search gives the answers of the numpy one, bit for bit."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowledgebeast_service.search import kernel
from knowledgebeast_service.search.hits import Hit
from knowledgebeast_service.search.keyword_index import KeywordIndex
from knowledgebeast_service.storage.records import ChunkPostings

terms = st.integers(min_value=1, max_value=12)
chunk = st.tuples(st.lists(terms, max_size=12), st.integers(min_value=1, max_value=6))
batch = st.tuples(st.lists(chunk, max_size=30), st.lists(st.integers(min_value=0, max_value=90), max_size=5))


@pytest.fixture(scope="module", autouse=True)
def compiled() -> Iterator[kernel.Kernel]:
    made = kernel.compile_kernel()
    yield made
    kernel.use(None)


def postings(chunk_id: int, document_id: int, words: list[int]) -> ChunkPostings:
    ids, counts = np.unique(np.array(words, dtype=np.int32), return_counts=True)
    return ChunkPostings(chunk_id, document_id, len(words), ids, counts.astype(np.int32))


def both(compiled: kernel.Kernel, index: KeywordIndex, *query: object) -> tuple[list[Hit], list[Hit]]:
    kernel.use(None)
    by_numpy = index.search(*query)  # pyright: ignore[reportArgumentType]
    kernel.use(compiled)
    return by_numpy, index.search(*query)  # pyright: ignore[reportArgumentType]


@settings(max_examples=150, deadline=None)
@given(
    batches=st.lists(batch, min_size=1, max_size=6),
    query=st.lists(st.integers(min_value=1, max_value=14), min_size=1, max_size=6),
    limit=st.integers(min_value=1, max_value=8),
    only=st.none() | st.lists(st.integers(min_value=0, max_value=8), max_size=5),
)
def test_compiled_and_plain_search_are_equal_to_the_last_bit(
    compiled: kernel.Kernel,
    batches: list[tuple[list[tuple[list[int], int]], list[int]]],
    query: list[int],
    limit: int,
    only: list[int] | None,
) -> None:
    index = KeywordIndex()
    held: dict[int, list[int]] = {}
    for added, removed in batches:
        gone = {*removed} & {*held}
        for chunk_id in gone:
            del held[chunk_id]
        first = max(held, default=0) + 100
        fresh = [postings(first + place, document, words) for place, (words, document) in enumerate(added)]
        held |= {first + place: words for place, (words, _) in enumerate(added)}
        index = index.apply(fresh, sorted(gone))
    by_numpy, by_kernel = both(compiled, index, query, limit, only)
    assert by_kernel == by_numpy
    assert both(compiled, index, query, limit, only)[1] == by_kernel  # the scratch was left as it was found


def test_a_document_in_many_pieces_does_not_crowd_out_the_others(compiled: kernel.Kernel) -> None:
    """Chunks of two documents take turns, so the heap is full of one document's before a third is seen."""
    turns = [postings(number, 1 + number % 2, [1, 2]) for number in range(1, 200)]
    index = KeywordIndex().apply([*turns, postings(900, 3, [1, 2, 3, 4])])
    by_numpy, by_kernel = both(compiled, index, [1], 3)
    assert by_kernel == by_numpy
    assert {hit.document_id for hit in by_kernel} == {1, 2, 3}


def test_counts_of_more_than_two_bytes_are_searched_exactly(compiled: kernel.Kernel) -> None:
    many = ChunkPostings(1, 1, 70_000, np.array([1], dtype=np.int32), np.array([70_000], dtype=np.int32))
    index = KeywordIndex().apply([many]).apply([postings(2, 2, [1])])
    by_numpy, by_kernel = both(compiled, index, [1], 5)
    assert by_kernel == by_numpy
    assert [hit.chunk_id for hit in by_kernel] == [1, 2]
