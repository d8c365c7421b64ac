"""A backup that is killed at any call that changes files, or is refused by the disk: never a half set that passes."""

import shutil
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backup_world import fill, make_set
from crashpoints.runner import CrashRunner, Mode, build_shim
from knowledgebeast_service.maintenance.backups.catalogue import judge_all
from knowledgebeast_service.maintenance.backups.manifest import DATABASE, sets_folder
from knowledgebeast_service.maintenance.result import read_result
from knowledgebeast_service.storage.database import Database

TARGET = "backup_targets:make_backup"


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Generator[CrashRunner]:
    with CrashRunner(build_shim(tmp_path_factory.mktemp("shim")), ["backup_targets"]) as runner:
        yield runner


class World:
    """A data folder, and backups that can be put back as they were: a good set, an old one, a bad one."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.backups = folder / "backups"
        self._before = folder / "before"
        database = Database(self.data / "knowledgebeast.db")
        database.open()
        fill(database, documents=3)
        now = datetime.now(UTC)
        self.good = make_set(database.path, self.backups, now - timedelta(hours=2)).name
        self.old = make_set(database.path, self.backups, now - timedelta(days=40)).name
        bad = make_set(database.path, self.backups, now - timedelta(hours=1))
        (bad / DATABASE).write_bytes(b"x" * 4096)
        self.bad = bad.name
        database.close()
        shutil.copytree(self.backups, self._before)

    @property
    def watched(self) -> list[Path]:
        return [self.backups, self.data / "maintenance"]

    def reset(self) -> None:
        for folder in self.watched:
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self._before, self.backups)

    def good_sets(self) -> set[str]:
        return {verdict.id for verdict in judge_all(self.backups) if verdict.ok}

    def run(self, runner: CrashRunner, mode: Mode = Mode.COUNT, at: int = 0):
        return runner.run(TARGET, [self.data, self.backups, "again"], self.watched, mode=mode, at=at)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("backup"))


@pytest.mark.timeout(180)
def test_a_kill_at_every_call_leaves_a_whole_set_or_none(runner: CrashRunner, world: World) -> None:
    world.reset()
    first = world.run(runner)
    assert first.raised is None, first.traceback
    assert first.result["ok"], first.result
    torn = [at for at, call in enumerate(first.log, start=1) if call.bytes and not call.path.endswith(DATABASE)]
    kills = [(Mode.BEFORE, at) for at in range(1, first.calls + 1)] + [(Mode.TORN, at) for at in torn]
    for mode, at in kills:
        world.reset()
        assert world.run(runner, mode, at).is_killed
        after_kill = judge_all(world.backups)
        unfinished = {one.id for one in after_kill if not one.ok} - {world.bad}
        assert all(name.startswith(".") for name in unfinished), (mode, at, unfinished)
        assert world.good in {one.id for one in after_kill if one.ok}
        again = world.run(runner)
        assert again.result["ok"], (mode, at, again)
        left = {one.name for one in sets_folder(world.backups).iterdir()}
        assert left == {".lock", world.good, world.bad, again.result["backup_id"]}, (mode, at)
        assert world.good_sets() == {world.good, again.result["backup_id"]}
        result = read_result(world.data / "maintenance" / "backup-again.json")
        assert result is not None
        assert result.measured["backup_id"] == again.result["backup_id"]


def test_a_disk_that_is_full_from_any_call_on_costs_no_set(runner: CrashRunner, world: World) -> None:
    world.reset()
    calls = world.run(runner).calls
    for at in range(1, calls + 1, 3):
        world.reset()
        outcome = world.run(runner, Mode.FAIL_ON, at)
        assert outcome.raised is None or "No space left" in outcome.raised, (at, outcome.traceback)
        assert world.good in world.good_sets()
        unfinished = {one.id for one in judge_all(world.backups) if not one.ok} - {world.bad}
        assert all(name.startswith(".") for name in unfinished), (at, unfinished)


def test_the_database_is_synced_before_its_manifest_and_both_before_their_name(
    runner: CrashRunner, world: World
) -> None:
    """A kill keeps what was written; only the order of the calls shows what a power cut would keep."""
    world.reset()
    log = world.run(runner).log
    seen = [(call.name, Path(call.path).name) for call in log]
    published = next(
        at for at, call in enumerate(log) if call.name == "rename" and call.path.endswith(".partial-again")
    )
    last_write = max(at for at, call in enumerate(log) if call.bytes and call.path.endswith(DATABASE))
    synced = max(at for at, one in enumerate(seen) if one == ("fsync", DATABASE))
    described = seen.index(("create", ".manifest.json.tmp"))
    assert last_write < synced < described < published
    assert ("fsync", ".manifest.json.tmp") in seen[described:published]
    assert ("fsync", ".partial-again") in seen[described:published]
    assert seen[published + 1] == ("fsync", "sets")
