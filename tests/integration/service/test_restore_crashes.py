"""A repair that is killed, torn or out of space at any call, and run again: never a mixture, each effect once."""

import os
import shutil
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from crashpoints.runner import Call, CrashRunner, Mode, Outcome, build_shim
from knowledgebeast_service.maintenance.restore.classify import classify
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.database import Database
from restore_world import NAME, Key, RestoreWorld, contents, flip_pages, pages_of, run_restore

ATTEMPT, EARLIER = "a1", "earlier"
PAIRS = int(os.environ.get("RESTORE_CRASH_PAIRS", "12"))  # kills of which the recovery is killed, too


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Generator[CrashRunner]:
    with CrashRunner(build_shim(tmp_path_factory.mktemp("shim")), ["restore_targets"]) as runner:
        yield runner


@dataclass
class Case:
    """A damaged folder, the repair of it, and what must come out."""

    name: str
    template: Path
    folder: Path
    run: Callable[[Mode, int], Outcome]
    expected: dict[Key, str]
    original: dict[str, bytes]

    @property
    def database(self) -> Path:
        return self.folder / NAME

    def anew(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.template, self.folder)

    def is_original(self, folder: Path) -> bool:
        return all(
            (folder / name).exists() and (folder / name).read_bytes() == was for name, was in self.original.items()
        )

    def require_no_mixture(self) -> None:
        """At any time: the original in place, or in quarantine; in its place nothing, or all that was recovered."""
        quarantine = self.folder / "quarantine" / ATTEMPT
        if self.is_original(self.folder):
            return
        here = {name for name in self.original if (self.folder / name).exists()}
        there = {name for name in self.original if (quarantine / name).exists()}
        if here | there == set(self.original) and (self.folder / "restore.json").exists():
            parts = {name: (self.folder if name in here else quarantine) / name for name in self.original}
            if not (NAME in here and NAME in there):
                assert all(path.read_bytes() == self.original[name] for name, path in parts.items())
        assert there, "the original is nowhere"
        if self.database.exists() and NAME in there:
            assert not self.database.with_name(f"{NAME}-wal").exists()
            assert contents(self.database, read_only=True) == self.expected
        assert self.no_service_opens_a_half() or contents(self.database, read_only=True) == self.expected

    def no_service_opens_a_half(self) -> bool:
        """While the file is away, a service that starts makes no empty one."""
        database = Database(self.database)
        database.open(volume_lock_wait_seconds=0)
        is_open = database.is_open
        database.close()
        return not is_open

    def require_done(self, outcome: Outcome) -> None:
        assert outcome.raised is None, outcome.traceback
        assert outcome.result["ok"], outcome.result
        assert contents(self.database, read_only=True) == self.expected
        report = classify(self.database)
        assert report.finding.is_good, report
        expected = [ATTEMPT, EARLIER] if self.name == "put_back" else [ATTEMPT]
        assert sorted(one.name for one in (self.folder / "quarantine").iterdir()) == expected
        assert self.is_original(self.folder / "quarantine" / ATTEMPT)
        assert not (self.folder / "restore.json").exists()
        assert not (self.folder / "restore-scratch").exists()
        assert not list(self.folder.glob(".*.tmp"))


def some(numbers: Sequence[int], few: int) -> Sequence[int]:
    """All of them where RESTORE_CRASHES=all, else a few, spread over all."""
    return numbers if os.environ.get("RESTORE_CRASHES") == "all" else numbers[:: max(1, len(numbers) // few)]


def killed_run(data: Path) -> dict[str, bytes]:
    return {name: (data / name).read_bytes() for name in (NAME, f"{NAME}-wal") if (data / name).exists()}


@pytest.fixture(scope="module", params=["restore", "reindex", "put_back"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, runner: CrashRunner) -> Case:
    folder = tmp_path_factory.mktemp(request.param)
    world = RestoreWorld(folder)
    world.fill(12, words=20)
    if request.param != "reindex":
        world.backup()
        world.put("d1", "a newer text, which was shipped")
        world.ship()
    world.put("late", "the last one, which was not shipped")
    template = world.crash("template")
    world.close()
    if request.param == "restore":
        damage_restore(template)
    elif request.param == "reindex":
        damage_index(template)
    else:  # a whole database that went back to its backup by mistake
        assert run_restore(template, world.backups, EARLIER, backup="latest", only_backup=True).ok
    data = folder / "work"
    source = {"restore": [str(world.backups)], "reindex": [], "put_back": [EARLIER]}[request.param]
    arguments = [str(data), *source, ATTEMPT]

    def run(mode: Mode, at: int) -> Outcome:
        return runner.run(f"restore_targets:run_{request.param}", arguments, data, mode=mode, at=at)

    return Case(request.param, template, data, run, dict(world.acknowledged), killed_run(template))


def damage_restore(data: Path) -> None:
    checkpoint(data)
    flip_pages(data / NAME, pages_of(data / NAME, "postings")[-1:])
    (data / f"{NAME}-wal").write_bytes(b"")  # one that must move with the file


def damage_index(data: Path) -> None:
    checkpoint(data)
    flip_pages(data / NAME, pages_of(data / NAME, "sqlite_autoindex_terms_1")[-1:])


def checkpoint(data: Path) -> None:
    connection = Connection(data / NAME)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def test_killed_at_every_call_and_run_again(case: Case) -> None:
    case.anew()
    whole = case.run(Mode.COUNT, 0)
    case.require_done(whole)
    assert whole.calls > 20
    every = range(1, whole.calls + 1)
    for at in every if case.name == "restore" else some(every, 40):
        case.anew()
        assert case.run(Mode.BEFORE, at).is_killed
        case.require_no_mixture()
        case.require_done(case.run(Mode.COUNT, 0))


def test_torn_at_every_write_and_run_again(case: Case) -> None:
    case.anew()
    log = case.run(Mode.COUNT, 0).log
    for at in some([at for at, call in enumerate(log, start=1) if call.bytes > 1], 15):
        case.anew()
        assert case.run(Mode.TORN, at).is_killed
        case.require_no_mixture()
        case.require_done(case.run(Mode.COUNT, 0))


def test_killed_again_during_the_recovery(case: Case) -> None:
    case.anew()
    calls = case.run(Mode.COUNT, 0).calls
    for first in range(1, calls + 1, max(1, calls // PAIRS)):
        case.anew()
        assert case.run(Mode.BEFORE, first).is_killed
        second = 1 + (7 * first) % 23
        if case.run(Mode.BEFORE, second).is_killed:
            case.require_no_mixture()
        case.require_done(case.run(Mode.COUNT, 0))


@pytest.mark.parametrize("mode", [Mode.FAIL, Mode.FAIL_ON])
def test_out_of_space_at_every_call_is_refused_and_can_be_run_again(case: Case, mode: Mode) -> None:
    case.anew()
    log = case.run(Mode.COUNT, 0).log
    asking = [at for at, call in enumerate(log, start=1) if call.name not in ("unlink", "rmdir")]
    for at in some(asking, 18):
        case.anew()
        outcome = case.run(mode, at)
        assert outcome.killed_by is None
        if outcome.raised is not None or not outcome.result["ok"]:
            assert outcome.raised is None, outcome.traceback
            assert outcome.result["reason"] in ("DiskFull", "CannotWrite")
            case.require_no_mixture()
        case.require_done(case.run(Mode.COUNT, 0))


def test_the_order_of_calls_survives_a_power_cut(case: Case) -> None:
    """What a rename names is on disk before it, and the rename is before what relies on it."""
    case.anew()
    log = case.run(Mode.COUNT, 0).log
    swap = next(at for at, call in enumerate(log) if call.name == "rename" and call.other == str(case.database))
    prepared = log[swap].path
    written = max(
        at
        for at, call in enumerate(log)
        if call.path in (prepared, f"{prepared}.new") and call.name.startswith(("write", "pwrite"))
    )
    synced = max(at for at, call in enumerate(log[:swap]) if call == Call("fsync", prepared, "", 0))
    assert written < synced < swap
    assert Call("fsync", str(case.folder), "", 0) in log[swap : swap + 2]
    marker = str(case.folder / "restore.json")
    marks = [at for at, call in enumerate(log) if call.name == "rename" and call.other == marker]
    for at in marks:
        assert log[at - 1].name == "fsync"
        assert log[at - 1].path == log[at].path
        assert log[at + 1] == Call("fsync", str(case.folder), "", 0)
    moved = [at for at, call in enumerate(log) if call.name == "rename" and "/quarantine/" in call.other]
    assert synced < marks[-2] < min(moved) <= max(moved) < marks[-1] < swap
    quarantine = str(case.folder / "quarantine" / ATTEMPT)
    assert any(call == Call("fsync", quarantine, "", 0) for call in log[max(moved) : marks[-1]])


def test_a_salvage_that_is_killed_leaves_the_evidence_and_no_half_file(case: Case, runner: CrashRunner) -> None:
    if case.name != "restore":
        pytest.skip("once is enough")
    case.anew()
    out = case.folder.parent / "recovery.jsonl"
    arguments = [case.folder, out, 0]
    folders = [case.folder, out.parent]
    whole = runner.run("restore_targets:run_salvage", arguments, folders)
    expected = out.read_bytes()
    assert cast("int", whole.result["documents"]) > 0
    for at in range(1, whole.calls + 1):
        out.unlink(missing_ok=True)
        assert runner.run("restore_targets:run_salvage", arguments, folders, mode=Mode.BEFORE, at=at).is_killed
        assert not out.exists() or out.read_bytes() == expected
        assert case.is_original(case.folder)
        runner.run("restore_targets:run_salvage", arguments, folders)
        assert out.read_bytes() == expected
