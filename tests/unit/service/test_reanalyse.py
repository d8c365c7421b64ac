"""Postings follow the version of the analyser, while replicas go on answering."""

import json
from collections import Counter

import pytest

from knowledgebeast_service.ingest import reanalyse
from knowledgebeast_service.ingest.reanalyse import Reanalysis
from knowledgebeast_service.search.analyser import analyse
from knowledgebeast_service.search.replica import KeywordReplica
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.documents import delete_document, upsert_documents
from knowledgebeast_service.storage.postings import newest_analyser, outdated_chunks
from knowledgebeast_service.storage.records import ANALYSER_VERSION, PreparedChunk, PreparedDocument

NEXT = ANALYSER_VERSION + 1
ANIMALS = ("red fox", "grey goose", "white hare", "brown bear")


def ingest(database: Database, count: int, project: str = "p") -> None:
    texts = [f"{ANIMALS[number % 4]} number{number}" for number in range(count)]
    documents = [
        PreparedDocument(f"d{place}", "", json.dumps({}), (PreparedChunk(text, Counter(analyse(text))),))
        for place, text in enumerate(texts)
    ]
    database.write_now(lambda connection: upsert_documents(connection, project, documents))


def spelled_backwards(text: str) -> list[str]:
    return [word[::-1] for word in analyse(text)]


def found(replica: KeywordReplica, term: str) -> list[int]:
    term_id = replica.vocabulary.get(term)
    index = replica.snapshot.by_name["p"].index
    return [] if term_id is None else sorted(hit.chunk_id for hit in index.search([term_id], 1000))


async def test_a_new_version_makes_all_postings_anew_and_replicas_follow(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reanalyse, "CHUNKS_AT_ONCE", 7)
    ingest(database, 100)
    follower = KeywordReplica(database)
    await follower.catch_up()
    foxes = found(follower, "fox")
    assert len(foxes) == 25
    work = Reanalysis(database, NEXT, spelled_backwards)
    assert await work.work_off() == 100
    assert await work.work_off() == 0
    await follower.catch_up()
    late = KeywordReplica(database)
    await late.catch_up()
    for replica in (follower, late):
        assert found(replica, "fox") == []
        assert found(replica, "xof") == foxes
    indexes = [replica.snapshot.by_name["p"].index for replica in (follower, late)]
    assert indexes[0].mean_idf == indexes[1].mean_idf
    assert indexes[0].size == indexes[1].size == 100
    for closing in (follower, late):
        closing.close()


async def test_every_chunk_is_found_at_every_moment_of_it(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reanalyse, "CHUNKS_AT_ONCE", 10)
    ingest(database, 60)
    replica = KeywordReplica(database)
    await replica.catch_up()
    foxes = found(replica, "fox")
    seen = 0

    def watched(text: str) -> list[str]:
        nonlocal seen
        seen += 1
        return spelled_backwards(text)

    work = Reanalysis(database, NEXT, watched)
    original = database.write

    async def write_and_look(operation: object) -> object:
        result = await original(operation)  # pyright: ignore[reportArgumentType, reportUnknownVariableType]
        await replica.catch_up()
        assert sorted([*found(replica, "fox"), *found(replica, "xof")]) == foxes
        return result  # pyright: ignore[reportUnknownVariableType]

    monkeypatch.setattr(database, "write", write_and_look)
    await work.work_off()
    assert seen == 60
    replica.close()


async def test_a_document_deleted_or_replaced_meanwhile_stays_so(database: Database) -> None:
    ingest(database, 20)
    replica = KeywordReplica(database)
    await replica.catch_up()

    def interrupted(text: str) -> list[str]:
        if "number3" in text:
            database.write_now(lambda connection: delete_document(connection, "p", "d3"))
            database.write_now(lambda connection: delete_document(connection, "p", "d4"))
        return spelled_backwards(text)

    work = Reanalysis(database, NEXT, interrupted)
    assert await work.work_off() == 18
    await replica.catch_up()
    index = replica.snapshot.by_name["p"].index
    assert index.size == 18
    assert found(replica, "3rebmun") == found(replica, "4rebmun") == []
    # A frequency that was counted down twice or not at all would show here.
    fresh = KeywordReplica(database)
    await fresh.catch_up()
    assert fresh.snapshot.by_name["p"].index.mean_idf == index.mean_idf
    for closing in (replica, fresh):
        closing.close()


async def test_an_older_release_leaves_newer_postings_alone_and_says_so(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    ingest(database, 5)
    newer = Reanalysis(database, NEXT, spelled_backwards)
    await newer.work_off()
    older = Reanalysis(database)
    assert await older.work_off() == 0
    assert database.read_now(newest_analyser) == NEXT
    await older._warn_of_newer()  # pyright: ignore[reportPrivateUsage]
    assert "newer release" in caplog.text


def test_what_is_stored_now_is_not_outdated(database: Database) -> None:
    ingest(database, 3)
    assert database.read_now(lambda connection: outdated_chunks(connection, ANALYSER_VERSION, 10)) == []
    assert len(database.read_now(lambda connection: outdated_chunks(connection, NEXT, 10))) == 3
