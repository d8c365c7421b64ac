"""After a start the whole database is read once for all replicas; what is found stops the writing."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from knowledgebeast_service import main
from knowledgebeast_service.maintenance import start_check
from knowledgebeast_service.maintenance.start_check import StartCheck, stamp_path
from knowledgebeast_service.settings import Settings
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.damage import Finding
from knowledgebeast_service.storage.database import Database
from restore_world import NAME, RestoreWorld, flip_pages, pages_of

INDEX = "sqlite_autoindex_documents_1"  # of the ids: read by who writes, and by nobody at a start
AT_ONCE = {"delay_seconds": (0.0, 0.0), "retry_seconds": 0.01}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A closed database of 200 documents."""
    world = RestoreWorld(tmp_path)
    world.fill(200)
    world.close()
    return world.data


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When each look at a whole database began."""
    made: list[float] = []
    look = start_check._look  # pyright: ignore[reportPrivateUsage]

    def counted(connection: Connection) -> Finding:
        made.append(time.time())
        return look(connection)

    monkeypatch.setattr(start_check, "_look", counted)
    return made


def opened(data: Path, on_error: Callable[[str], None] = lambda _kind: None) -> Database:
    database = Database(data / NAME, on_error=on_error)
    database.open()
    return database


async def run(database: Database, **options: object) -> None:
    await asyncio.wait_for(StartCheck(database, **(AT_ONCE | options)).run(), 30)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("torn", ["postings", INDEX])
async def test_pages_that_nobody_has_read_are_found(data: Path, torn: str) -> None:
    flip_pages(data / NAME, pages_of(data / NAME, torn)[-1:])
    errors: list[str] = []
    database = opened(data, errors.append)
    assert database.damage.is_good
    await run(database)
    assert not database.damage.is_good
    assert errors == ["corrupt"]
    database.close()


async def test_a_whole_database_is_read_once_and_nothing_is_said(data: Path, checks: list[float]) -> None:
    errors: list[str] = []
    database = opened(data, errors.append)
    began = time.time()
    await run(database)
    assert database.damage.is_good
    assert errors == []
    assert len(checks) == 1
    assert float(stamp_path(data / NAME).read_text()) >= began - 0.001
    database.close()


async def test_replicas_that_start_together_check_once(data: Path, checks: list[float]) -> None:
    replicas = [opened(data) for _ in range(3)]
    async with asyncio.TaskGroup() as starting:
        for one in replicas:
            starting.create_task(run(one))
    assert len(checks) == 1
    for one in replicas:
        one.close()


async def test_a_later_start_checks_again_but_not_soon_after(data: Path, checks: list[float]) -> None:
    database = opened(data)
    await run(database)
    await run(database, apart_seconds=0.5)
    assert len(checks) == 2
    assert checks[1] - checks[0] >= 0.45
    database.close()


async def test_a_stop_ends_a_check_under_way(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And leaves no proof that it was made, nor a connection."""
    under_way = threading.Event()

    def endless(connection: Connection) -> Finding:
        under_way.set()
        connection.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n")
        raise AssertionError("it does not end by itself")

    monkeypatch.setattr(start_check, "_look", endless)
    database = opened(data)
    task = asyncio.create_task(run(database))
    assert await asyncio.to_thread(under_way.wait, 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stamp_path(data / NAME).read_text() == ""
    database.close()
    assert not (data / f"{NAME}-wal").exists()


async def test_a_damaged_database_is_left_to_who_repairs_it(data: Path, checks: list[float]) -> None:
    (data / NAME).write_bytes(b"")
    database = opened(data)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(StartCheck(database, delay_seconds=(0, 0), retry_seconds=0.01).run(), 0.3)
    assert checks == []


async def test_a_service_does_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checks: list[float]
) -> None:
    flip_pages(data / NAME, pages_of(data / NAME, INDEX)[-1:])
    monkeypatch.setattr(main, "StartCheck", partial(StartCheck, **AT_ONCE))
    settings = Settings(data_dir=data, model_dir=tmp_path / "absent", chroma_url="http://127.0.0.1:9")
    noted, note_damage = threading.Event(), Database.note_damage

    def note(database: Database, finding: Finding) -> None:
        note_damage(database, finding)
        noted.set()

    monkeypatch.setattr(Database, "note_damage", note)
    app = main.create_app(settings)
    async with app.router.lifespan_context(app):
        assert await asyncio.to_thread(noted.wait, 30)
        assert not app.state.components.database.damage.is_good
    assert len(checks) == 1
