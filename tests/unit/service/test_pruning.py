"""The change log stays short, and no replica misses anything by that."""

import pytest

from knowledgebeast_service.search.replica import KeywordReplica
from knowledgebeast_service.storage import pruning
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.documents import delete_document, upsert_documents
from knowledgebeast_service.storage.queries import change_head
from knowledgebeast_service.storage.records import PreparedChunk, PreparedDocument


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(pruning, "time", made)
    return made


def ingest(database: Database, *names: str) -> None:
    documents = [PreparedDocument(name, "", "{}", (PreparedChunk(name, {name: 1}),)) for name in names]
    database.write_now(lambda connection: upsert_documents(connection, "p", documents))


def prune(database: Database) -> int:
    return database.write_now(pruning.prune)


def entries(database: Database) -> list[int]:
    return database.read_now(
        lambda connection: [row[0] for row in connection.rows("SELECT seq FROM changes ORDER BY seq")]
    )


def test_entries_go_when_they_are_old_enough(database: Database, clock: Clock) -> None:
    ingest(database, "a", "b")
    old = entries(database)
    assert prune(database) == 0
    clock.now += pruning.KEEP_SECONDS / 2
    ingest(database, "c")
    assert prune(database) == 0
    clock.now += pruning.KEEP_SECONDS / 2
    assert database.read_now(pruning.needs_pruning)
    assert prune(database) == len(old) - 1
    assert entries(database)[0] == old[-1]
    assert not database.read_now(pruning.needs_pruning)


def test_the_newest_entry_stays_for_ever(database: Database, clock: Clock) -> None:
    ingest(database, "a", "b")
    head = database.read_now(change_head)
    for _ in range(5):
        clock.now += 2 * pruning.KEEP_SECONDS
        prune(database)
    assert entries(database) == [head]
    assert database.read_now(change_head) == head


def test_a_clock_that_is_set_back_prunes_nothing_early(database: Database, clock: Clock) -> None:
    prune_at_future = clock.now + 1e6
    ingest(database, "a")
    clock.now = prune_at_future
    prune(database)
    clock.now -= 1e6
    ingest(database, "b")
    before = entries(database)
    prune(database)
    clock.now += pruning.KEEP_SECONDS - 1
    prune(database)
    assert entries(database) == before


def test_a_large_part_goes_in_small_steps(database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "BATCH", 10)
    ingest(database, *(f"w{number}" for number in range(25)))
    prune(database)
    clock.now += pruning.KEEP_SECONDS
    steps: list[int] = []
    while database.read_now(pruning.needs_pruning):
        steps.append(prune(database))
    assert steps == [10, 10, 5]


async def test_a_replica_that_slept_loads_everything_anew(database: Database, clock: Clock) -> None:
    ingest(database, "stays", "goes")
    asleep, awake = KeywordReplica(database), KeywordReplica(database)
    await asleep.catch_up()
    await awake.catch_up()
    database.write_now(lambda connection: delete_document(connection, "p", "goes"))
    ingest(database, "comes")
    await awake.catch_up()
    prune(database)
    clock.now += pruning.KEEP_SECONDS
    prune(database)
    ingest(database, "last")
    for replica in (asleep, awake):
        await replica.catch_up()
        view = replica.snapshot.by_name["p"]
        found = {word: bool(view.index.search([replica.vocabulary[word]], 9)) for word in ("stays", "comes", "last")}
        assert found == {"stays": True, "comes": True, "last": True}
        assert view.index.search([replica.vocabulary["goes"]], 9) == []
        assert view.index.size == 3
        replica.close()
