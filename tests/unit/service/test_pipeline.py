"""The query pipeline over a real database and index, with exact stand-ins for Chroma and the model."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from knowledgebeast_service.search.answer import Answer
from knowledgebeast_service.search.collection_health import Failing
from knowledgebeast_service.search.pipeline import SearchRequest
from knowledgebeast_service.storage.database import Database
from search_world import Doc, SearchWorld, search_world


@pytest.fixture
async def world(database: Database) -> AsyncGenerator[SearchWorld]:
    async with search_world(database) as made:
        yield made


def ids(answer: Answer) -> list[str]:
    return [result["document_id"] for result in answer.results()]


def many(count: int) -> list[Doc]:
    """Further and further away from every query; one in three also has its word."""
    return [
        Doc(f"d{n:04}", "fox" if n % 3 == 0 else "dog", n * 0.05, {"even": n % 2 == 0, "last": n >= count - 3})
        for n in range(count)
    ]


async def test_a_filter_finds_documents_beyond_the_nearest_thousand(world: SearchWorld) -> None:
    await world.add("p", many(1500))
    found = await world.pipeline.answer(SearchRequest("p", "bird", "vector", filter={"last": True}))
    assert ids(found) == ["d1497", "d1498", "d1499"]


async def test_a_broad_filter_is_as_exact_as_a_narrow_one(world: SearchWorld) -> None:
    documents = [Doc(f"near{n}", "dog", n * 0.01, {"kind": "near"}) for n in range(1200)]
    documents += [Doc(f"far{n:03}", "dog", 20 + n * 0.01, {"kind": "far"}) for n in range(600)]
    await world.add("p", documents)
    found = await world.pipeline.answer(SearchRequest("p", "bird", "vector", 5, filter={"kind": "far"}))
    assert ids(found) == [f"far{n:03}" for n in range(5)]
    found = await world.pipeline.answer(SearchRequest("p", "bird", "vector", 5, filter={"kind": "near"}))
    assert ids(found) == [f"near{n}" for n in range(5)]


async def test_a_small_project_gives_all_it_has_though_the_graph_of_chroma_has_lost_one(world: SearchWorld) -> None:
    """An HNSW graph may hold vectors that no walk reaches: Chroma leaves them out of every answer."""
    await world.add("p", many(40))
    unreached = world.store.collections.popitem()
    world.store.collections[unreached[0]] = dict(list(unreached[1].items())[:-1])
    found = await world.pipeline.answer(SearchRequest("p", "bird", "vector", 100))
    assert ids(found) == [doc.id for doc in many(40)]
    few = await world.pipeline.answer(SearchRequest("p", "bird", "vector", 5))
    assert ids(few) == ids(found)[:5]


@pytest.mark.parametrize("mode", ["hybrid", "vector", "keyword"])
async def test_the_pages_of_an_answer_hold_every_document_once(world: SearchWorld, mode: str) -> None:
    await world.add("p", many(330))
    pages: list[str] = []
    offset: int | None = 0
    while offset is not None:
        answer = await world.pipeline.answer(SearchRequest("p", "fox", mode, 30, offset))  # pyright: ignore[reportArgumentType]
        pages += ids(answer)
        offset = answer.next_offset
    assert sorted(pages) == sorted(doc.id for doc in many(330) if mode != "keyword" or doc.text == "fox")


async def test_a_larger_page_begins_with_the_smaller_one(world: SearchWorld) -> None:
    await world.add("p", many(330))
    small = await world.pipeline.answer(SearchRequest("p", "fox", top_k=10))
    large = await world.pipeline.answer(SearchRequest("p", "fox", top_k=100, offset=0))
    deep = await world.pipeline.answer(SearchRequest("p", "fox", top_k=100, offset=100))
    assert ids(large)[:10] == ids(small)
    assert not set(ids(large)) & set(ids(deep))


async def test_the_same_query_asked_at_once_is_searched_once(world: SearchWorld) -> None:
    await world.add("p", many(20))
    answers = await asyncio.gather(*(world.pipeline.answer(SearchRequest("p", text)) for text in ["Fox", " fox "] * 10))
    assert world.embedder.asked == ["fox"]
    assert len({answer.results_json for answer in answers}) == 1
    assert (await world.pipeline.answer(SearchRequest("p", "fox"))).is_cached


async def test_an_answer_without_vectors_is_not_kept(world: SearchWorld) -> None:
    await world.add("p", many(20))
    world.breaker.trip("Chroma is away")
    degraded = await world.pipeline.answer(SearchRequest("p", "fox"))
    world.breaker.begin_probe()
    world.breaker.probe_succeeded()
    complete = await world.pipeline.answer(SearchRequest("p", "fox"))
    assert degraded.degraded_reason is not None
    assert set(ids(degraded)) < {doc.id for doc in many(20) if doc.text == "fox"} | set(ids(complete))
    assert (complete.degraded_reason, complete.is_cached) == (None, False)


async def test_a_project_whose_collection_fails_is_the_only_one_without_vectors(world: SearchWorld) -> None:
    await world.add("bad", many(20))
    await world.add("good", many(20))
    kept = await world.pipeline.answer(SearchRequest("bad", "fox"))
    project = world.replica.snapshot.by_name["bad"].project
    world.health.failed(project.id, Failing("3 of 20 canaries found themselves"))
    asked = len(world.store.asked)
    degraded = await world.pipeline.answer(SearchRequest("bad", "a fox"))
    assert "3 of 20 canaries" in str(degraded.degraded_reason)
    assert len(world.store.asked) == asked, "it is not even asked"
    assert (await world.pipeline.answer(SearchRequest("good", "a fox"))).degraded_reason is None
    assert world.pipeline.degraded_reason is None
    again = await world.pipeline.answer(SearchRequest("bad", "fox"))
    assert (again.is_cached, again.results_json) == (True, kept.results_json)
    assert "comes from the cache" in str(again.degraded_reason)
    world.health.passed(project.id)
    assert (await world.pipeline.answer(SearchRequest("bad", "a fox"))).degraded_reason is None


async def test_a_write_makes_the_cached_answer_stale(world: SearchWorld) -> None:
    await world.add("p", many(5))
    await world.add("other", many(5))
    before = await world.pipeline.answer(SearchRequest("p", "fox"))
    kept = await world.pipeline.answer(SearchRequest("other", "fox"))
    await world.add("p", [Doc("new", "fox", 0)])
    after = await world.pipeline.answer(SearchRequest("p", "fox"))
    assert "new" not in ids(before)
    assert "new" in ids(after)
    assert not after.is_cached
    again = await world.pipeline.answer(SearchRequest("other", "fox"))
    assert (again.is_cached, again.results_json) == (True, kept.results_json)


async def test_results_say_which_words_match_unless_they_need_not(world: SearchWorld) -> None:
    await world.add("p", [Doc("a", "a fox and a dog", 0, {"n": 1})])
    [marked] = (await world.pipeline.answer(SearchRequest("p", "Foxes"))).results()
    [plain] = (await world.pipeline.answer(SearchRequest("p", "Foxes", highlight=False))).results()
    assert marked["highlights"] == [[2, 5]]
    assert "highlights" not in plain
    assert marked["metadata"] == {"n": 1}
