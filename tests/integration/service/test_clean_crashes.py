"""A clean that is killed at any call that changes files, or finds the disk full: the next run ends where one would."""

import gzip
import os
import shutil
import time
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backup_world import fill, make_set
from crashpoints.runner import CrashRunner, Mode, build_shim
from knowledgebeast_service.maintenance.backups.catalogue import newest_good
from knowledgebeast_service.storage.database import Database

TARGET = "clean_targets:make_room"
LOG = b'{"level": "info"}\n' * 500


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Generator[CrashRunner]:
    with CrashRunner(build_shim(tmp_path_factory.mktemp("shim")), ["clean_targets"]) as runner:
        yield runner


class World:
    """A data folder with something of each kind to remove, and backups; both can be put back as they were."""

    def __init__(self, folder: Path) -> None:
        self.data, self.backups = folder / "data", folder / "backups"
        self._before = folder / "before"
        database = Database(self.data / "knowledgebeast.db")
        database.open()
        fill(database, documents=3)
        now = datetime.now(UTC)
        make_set(database.path, self.backups, now - timedelta(days=50))
        self.good = make_set(database.path, self.backups, now - timedelta(days=40)).name
        database.close()
        for name, days in (
            ("temp/old", 2),
            ("logs/kb.log.1", 8),
            ("logs/kb.log.x.gz", 31),
            ("quarantine/fix/knowledgebeast.db", 31),
            ("snapshots/old/chroma.sqlite3", 31),
        ):
            path = self.data / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(LOG)
            then = time.time() - days * 86_400
            for one in (path, path.parent):
                os.utime(one, (then, then))
        for one in (self.data, self.backups):
            shutil.copytree(one, self._before / one.name)

    def reset(self) -> None:
        for one in (self.data, self.backups):
            shutil.rmtree(one, ignore_errors=True)
            shutil.copytree(self._before / one.name, one)

    def run(self, runner: CrashRunner, mode: Mode = Mode.COUNT, at: int = 0):
        return runner.run(TARGET, [self.data, self.backups, "again"], [self.data, self.backups], mode=mode, at=at)

    def files(self) -> set[str]:
        found = (*self.data.rglob("*"), *(self.backups / "sets").rglob("*"))
        return {str(path) for path in found if path.is_file() and ".running-" not in path.name}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("clean"))


@pytest.mark.timeout(180)
def test_a_kill_at_every_call_costs_neither_the_newest_backup_nor_a_log(runner: CrashRunner, world: World) -> None:
    world.reset()
    first = world.run(runner)
    assert first.raised is None, first.traceback
    expected = world.files()
    for at in range(1, first.calls + 1):
        world.reset()
        assert world.run(runner, Mode.BEFORE, at).is_killed
        verified = newest_good(world.backups)
        assert verified is not None, at
        assert verified.id == world.good
        assert world.run(runner).result["ok"], at
        assert world.files() == expected, at
        (log,) = (world.data / "logs").iterdir()
        assert gzip.decompress(log.read_bytes()) == LOG, at


def test_a_full_disk_keeps_nothing_from_being_removed(runner: CrashRunner, world: World) -> None:
    world.reset()
    outcome = world.run(runner, Mode.FAIL_ON, 1)
    assert outcome.raised is None or "No space left" in outcome.raised, outcome.traceback  # its result cannot be kept
    left = {Path(name).name for name in world.files()}
    assert "kb.log.1" in left  # there is no room to compress it in
    assert not {"old", "kb.log.x.gz", "chroma.sqlite3"} & left
    verified = newest_good(world.backups)  # a full disk that takes no rename, either, keeps the old set as well
    assert verified is not None
    assert verified.id == world.good
