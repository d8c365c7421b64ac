"""The most asked queries: counted in memory, kept in the database within bounds, and forgotten."""

from collections.abc import AsyncGenerator

import pytest

from knowledgebeast_service.search.pipeline import SearchRequest
from knowledgebeast_service.search.top_queries import TopQueries
from knowledgebeast_service.settings import LiveSettings
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.documents import delete_project
from knowledgebeast_service.storage.top_queries import TopQuery, add_counts, most_asked
from search_world import Doc, SearchWorld, search_world


@pytest.fixture
async def world(database: Database) -> AsyncGenerator[SearchWorld]:
    async with search_world(database) as made:
        for project in ("p", "q"):
            await made.add(project, [Doc("d", "fox", 0)])
        yield made


def remembered(world: SearchWorld, project: str = "p", limit: int = 10) -> list[str]:
    view = world.replica.snapshot.by_name[project]
    found = world.database.read_now(lambda connection: most_asked(connection, view.project.id, limit))
    return [one.query for one in found]


def rows(world: SearchWorld) -> int:
    return world.database.read_now(lambda connection: connection.number("SELECT count(*) FROM top_queries"))


async def ask(subject: TopQueries, *texts: str, project: str = "p") -> None:
    for text in texts:
        subject.record(SearchRequest(project, text))
    await subject.flush()


async def test_counts_add_up_over_processes_and_projects_stay_apart(world: SearchWorld) -> None:
    one, other = (TopQueries(world.database, world.replica, LiveSettings) for _ in range(2))
    await ask(one, "fox", "Fox", "owl")
    await ask(other, "owl", "OWL", "bee")
    await ask(other, "ant", project="q")
    assert remembered(world) == ["owl", "fox", "bee"]
    assert remembered(world, limit=1) == ["owl"]
    assert remembered(world, "q") == ["ant"]


async def test_filtered_queries_later_pages_and_unknown_projects_are_not_remembered(world: SearchWorld) -> None:
    subject = TopQueries(world.database, world.replica, LiveSettings)
    subject.record(SearchRequest("p", "secret", filter={"a": 1}))
    subject.record(SearchRequest("p", "deep", offset=10))
    subject.record(SearchRequest("nowhere", "lost"))
    await subject.flush()
    assert rows(world) == 0


async def test_only_the_most_asked_stay_and_a_newer_one_wins_a_tie(world: SearchWorld) -> None:
    subject = TopQueries(world.database, world.replica, lambda: LiveSettings(top_queries=2))
    await ask(subject, "a", "a", "b")
    await ask(subject, "c")
    assert remembered(world) == ["a", "c"]


async def test_switched_off_nothing_is_counted_and_everything_is_forgotten(world: SearchWorld) -> None:
    settings = LiveSettings()
    subject = TopQueries(world.database, world.replica, lambda: settings)
    await ask(subject, "fox")
    settings = LiveSettings(top_queries=0)
    await ask(subject, "owl")
    assert rows(world) == 0
    settings = LiveSettings()
    await subject.flush()
    assert rows(world) == 0


async def test_old_queries_and_those_of_deleted_projects_go(world: SearchWorld) -> None:
    subject = TopQueries(world.database, world.replica, LiveSettings)
    await ask(subject, "old")
    await ask(subject, "gone", project="q")
    world.database.write_now(
        lambda connection: connection.execute("UPDATE top_queries SET last_asked = 1 WHERE query = 'old'")
    )
    world.database.write_now(lambda connection: delete_project(connection, "q"))
    new = {(world.replica.snapshot.by_name["p"].project.id, TopQuery("new", "hybrid", 10, True)): 1}
    world.database.write_now(lambda connection: add_counts(connection, new, 10, 7.0))
    assert (remembered(world), rows(world)) == (["new"], 1)
