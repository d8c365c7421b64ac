"""Caches that are made smaller give their memory back to the system, and not only to the allocator."""

import pytest

from knowledgebeast_service import main
from knowledgebeast_service.search.answer import Answer
from knowledgebeast_service.search.cache import S3FifoCache
from knowledgebeast_service.search.pipeline import EmbeddingKey, QueryKey
from knowledgebeast_service.search.vector_store import Matrix
from knowledgebeast_service.settings import LiveSettings


@pytest.mark.parametrize(("entries", "given_back"), [(1, 1), (100, 0), (1000, 0)])
def test_memory_is_given_back_when_much_was_dropped(
    monkeypatch: pytest.MonkeyPatch, entries: int, given_back: int
) -> None:
    calls: list[None] = []
    monkeypatch.setattr(main, "give_back_memory", lambda: calls.append(None))
    answers = S3FifoCache[QueryKey, Answer](100, 100 * main.MIB, lambda _answer: main.MIB // 2)
    embeddings = S3FifoCache[EmbeddingKey, Matrix](100, 100 * main.MIB, lambda _vector: 1)
    for number in range(40):
        answers.put((number, 0, "hybrid", "", "", 10, 0, False, ""), Answer(b"[]", 0, None, None))
    main.resize_caches(LiveSettings(query_cache_size=entries), answers, embeddings)
    assert len(calls) == given_back
    assert answers.stats().size == min(entries, 40)
