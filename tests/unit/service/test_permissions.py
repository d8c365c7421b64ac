"""A database that this process may not read is not a damaged one: refused, with what to do, and nothing is changed."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from command_targets import run_restore as restore_command
from knowledgebeast_service.errors import StartupError
from knowledgebeast_service.main import create_app
from knowledgebeast_service.maintenance.check import check
from knowledgebeast_service.maintenance.restore.put_back import put_back
from knowledgebeast_service.maintenance.restore.reindex import reindex
from knowledgebeast_service.maintenance.result import TaskResult
from knowledgebeast_service.settings import Settings
from other_user import as_ordinary_user
from restore_world import NAME, RestoreWorld, run_restore

LOCKED: dict[str, Callable[[Path], Path]] = {
    "the database": lambda data: data / NAME,
    "its -wal": lambda data: data / f"{NAME}-wal",
    "its -shm": lambda data: data / f"{NAME}-shm",
    "the folder": lambda data: data,
}
TASKS: dict[str, Callable[[Path, Path], TaskResult]] = {
    "check": lambda data, backups: check(data / NAME, "a1", backups),
    "restore": run_restore,
    "restore of a named backup": lambda data, backups: run_restore(data, backups, backup="latest"),
    "reindex": lambda data, _backups: reindex(data / NAME, "a1", lock_wait_seconds=0),
    "put-back": lambda data, _backups: put_back(data / NAME, "a0", "a1", lock_wait_seconds=0),
}


class World:
    """A whole database with its log as a killed service leaves it, and a backup."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        world = RestoreWorld(folder)
        world.fill(12)
        self.backups = world.backup().parents[1]
        world.put("late", "in the log only")
        self.data = world.crash()
        world.close()

    def without(self, locked: Path, work: Callable[[], object]) -> str:
        """What `work` says to a user who has no right to one of the files; everything is as it was before."""
        before, mode = self._all(), locked.stat().st_mode
        locked.chmod(0)
        try:
            said = as_ordinary_user(self.folder, work)
        finally:
            locked.chmod(mode)
        assert self._all() == before
        return str(said)

    def _all(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("locked", LOCKED)
def test_a_task_says_that_it_may_not_read_and_changes_nothing(world: World, task: str, locked: str) -> None:
    def work() -> list[object]:
        result = TASKS[task](world.data, world.backups)
        return [result.ok, result.reason, str(result.refused)]

    said = world.without(LOCKED[locked](world.data), work)
    assert said.startswith("[False, 'NotReadable', 'user "), said
    assert "chown -R" in said
    assert "not known to be damaged, and nothing was changed" in said


def test_the_command_says_it_even_where_it_can_keep_no_result(world: World) -> None:
    said = world.without(world.data, lambda: restore_command(str(world.data), str(world.backups), "a1"))
    assert "'reason': 'NotReadable'" in said
    assert "'exit': 1" in said


@pytest.mark.parametrize("locked", LOCKED)
def test_a_service_does_not_start_and_says_why(world: World, locked: str) -> None:
    app = create_app(Settings(data_dir=world.data, model_dir=world.folder / "absent", chroma_url="http://127.0.0.1:9"))

    async def start() -> str:
        try:
            async with app.router.lifespan_context(app):
                return "it has started"
        except StartupError as error:
            return str(error)

    said = world.without(LOCKED[locked](world.data), lambda: asyncio.run(start()))
    assert said.startswith("NotReadable: user "), said
    assert "chown -R" in said
