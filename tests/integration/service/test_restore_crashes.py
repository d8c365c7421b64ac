"""A repair that is killed, torn or out of space at any call, and run again: never a mixture, each effect once.

It is the whole command: with the backup after it, and the result that the operator reads.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from crash_trials import TEST_SECONDS, copy_tree, killed, killed_again, out_of_space, torn
from crashpoints.runner import Call, CrashRunner, Mode, Outcome
from knowledgebeast_service.maintenance.backups.manifest import sets_folder
from knowledgebeast_service.maintenance.backups.prune import manifests
from knowledgebeast_service.maintenance.restore.classify import classify
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.database import Database
from restore_world import NAME, Key, RestoreWorld, contents, embedded, flip_pages, pages_of, run_restore

ATTEMPT, EARLIER = "a1", "earlier"
pytestmark = pytest.mark.timeout(TEST_SECONDS)


@dataclass
class Case:
    """A damaged folder, the repair of it, and what must come out."""

    name: str
    templates: dict[Path, Path]  # of the data and of the backups, by where each goes
    data: Path
    backups: Path
    start: Callable[[Mode, int], Outcome]
    expected: dict[Key, str]
    original: dict[str, bytes]
    sets_before: set[str]
    was_full: bool = field(default=False, init=False)

    @property
    def database(self) -> Path:
        return self.data / NAME

    @property
    def folders(self) -> list[Path]:
        return list(self.templates)

    def anew(self) -> None:
        self.was_full = False
        for folder, template in self.templates.items():
            copy_tree(template, folder)

    def run(self, mode: Mode = Mode.COUNT, at: int = 0) -> Outcome:
        self.was_full = self.was_full or mode in (Mode.FAIL, Mode.FAIL_ON)
        return self.start(mode, at)

    def later(self) -> Outcome:
        return self.run()

    def is_original(self, folder: Path) -> bool:
        return all(
            (folder / name).exists() and (folder / name).read_bytes() == was for name, was in self.original.items()
        )

    def require_safe(self) -> None:
        """At any time: the original in place, or in quarantine; in its place nothing, or all that was recovered."""
        quarantine = self.data / "quarantine" / ATTEMPT
        assert self.sets_before <= {one.id for one in manifests(self.backups)}
        if self.is_original(self.data):
            return
        here = {name for name in self.original if (self.data / name).exists()}
        there = {name for name in self.original if (quarantine / name).exists()}
        if here | there == set(self.original) and (self.data / "restore.json").exists():
            parts = {name: (self.data if name in here else quarantine) / name for name in self.original}
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
        assert embedded(self.database) == {key for _, key in self.expected}
        report = classify(self.database)
        assert report.finding.is_good, report
        expected = [ATTEMPT, EARLIER] if self.name == "put-back" else [ATTEMPT]
        assert sorted(one.name for one in (self.data / "quarantine").iterdir()) == expected
        assert self.is_original(self.data / "quarantine" / ATTEMPT)
        assert not (self.data / "restore.json").exists()
        assert not (self.data / "restore-scratch").exists()
        assert not list(self.data.glob(".*.tmp"))
        self._require_one_result(outcome)
        self._require_one_base(outcome)

    def _require_one_result(self, outcome: Outcome) -> None:
        results = [one for one in (self.data / "maintenance").iterdir() if EARLIER not in one.name]
        assert {one.name for one in results} == {f"{self.name}-{ATTEMPT}.json", f".{self.name}-{ATTEMPT}.done"}
        kept = json.loads((self.data / "maintenance" / f"{self.name}-{ATTEMPT}.json").read_text())
        assert kept == {key: value for key, value in outcome.result.items() if key != "exit"}

    def _require_one_base(self, outcome: Outcome) -> None:
        """The backup after it, of what is in place now; a result that a full volume has kept may say that it lacks."""
        if self.name == "reindex":
            return  # the same database under the same identity: its backups go on
        measured = cast("dict[str, object]", outcome.result["measured"])
        made = [one for one in manifests(self.backups) if one.attempt == f"{ATTEMPT}-base"]
        if self.was_full and "base_backup_id" not in measured:
            assert "has no backup yet" in str(measured["findings"])
            assert len(made) <= 1
            return
        assert [one.id for one in made] == [measured["base_backup_id"]]
        assert {one.name for one in sets_folder(self.backups).iterdir()} == {".lock", made[0].id, *self.sets_before}
        connection = Connection(self.database, read_only=True)
        assert connection.row("SELECT database_id FROM identity") == (made[0].database_id,)
        connection.close()


def killed_run(data: Path) -> dict[str, bytes]:
    return {name: (data / name).read_bytes() for name in (NAME, f"{NAME}-wal") if (data / name).exists()}


@pytest.fixture(scope="module", params=["restore", "reindex", "put-back"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, crash_runner: CrashRunner) -> Case:
    folder = tmp_path_factory.mktemp(request.param)
    world = RestoreWorld(folder)
    world.fill(12, words=20)
    world.embed()
    if request.param != "reindex":
        world.backup()
        world.put("d1", "a newer text, which was shipped")
        world.ship()
    world.put("late", "the last one, which was not shipped")
    world.embed()
    template = world.crash("template")
    world.close()
    if request.param == "restore":
        damage_restore(template)
    elif request.param == "reindex":
        damage_index(template)
    else:  # a whole database that went back to its backup by mistake
        assert run_restore(template, world.backups, EARLIER, backup="latest", only_backup=True).ok
    world.backups.mkdir(exist_ok=True)
    data, backups = folder / "work", folder / "work-backups"
    copy_tree(world.backups, folder / "template-backups")
    arguments = {"restore": [data, backups], "reindex": [data], "put-back": [data, backups, EARLIER]}[request.param]
    target = f"command_targets:run_{request.param.replace('-', '_')}"

    def start(mode: Mode, at: int) -> Outcome:
        return crash_runner.run(target, [*arguments, ATTEMPT], [data, backups], mode=mode, at=at)

    return Case(
        request.param,
        {data: template, backups: folder / "template-backups"},
        data,
        backups,
        start,
        dict(world.acknowledged),
        killed_run(template),
        {one.id for one in manifests(world.backups)},
    )


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


def test_killed_at_a_call_and_run_again(case: Case) -> None:
    killed(case, 36 if case.name == "restore" else 15)


def test_torn_at_a_write_and_run_again(case: Case) -> None:
    torn(case, 6)


def test_killed_again_during_the_recovery(case: Case) -> None:
    killed_again(case, 6)


@pytest.mark.parametrize("mode", [Mode.FAIL, Mode.FAIL_ON])
def test_out_of_space_at_a_call_is_refused_and_can_be_run_again(case: Case, mode: Mode) -> None:
    out_of_space(case, mode, 8, reasons=("DiskFull", "CannotWrite"))


def test_the_order_of_calls_survives_a_power_cut(case: Case) -> None:
    """What a rename names is on disk before it, and the rename is before what relies on it."""
    case.anew()
    log = case.run().log
    swap = next(at for at, call in enumerate(log) if call.name == "rename" and call.other == str(case.database))
    prepared = log[swap].path
    written = max(
        at
        for at, call in enumerate(log)
        if call.path in (prepared, f"{prepared}.new") and call.name.startswith(("write", "pwrite"))
    )
    synced = max(at for at, call in enumerate(log[:swap]) if call == Call("fsync", prepared, "", 0))
    assert written < synced < swap
    assert Call("fsync", str(case.data), "", 0) in log[swap : swap + 2]
    marker = str(case.data / "restore.json")
    marks = [at for at, call in enumerate(log) if call.name == "rename" and call.other == marker]
    for at in marks:
        assert log[at - 1].name == "fsync"
        assert log[at - 1].path == log[at].path
        assert log[at + 1] == Call("fsync", str(case.data), "", 0)
    moved = [at for at, call in enumerate(log) if call.name == "rename" and "/quarantine/" in call.other]
    assert synced < marks[-2] < min(moved) <= max(moved) < marks[-1] < swap
    quarantine = str(case.data / "quarantine" / ATTEMPT)
    assert any(call == Call("fsync", quarantine, "", 0) for call in log[max(moved) : marks[-1]])
