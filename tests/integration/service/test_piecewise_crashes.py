"""Salvage, merge and drill, killed or out of space at any call: the evidence stays, and no half file passes."""

import shutil
from abc import ABC, abstractmethod
from pathlib import Path

import pytest

from crash_trials import TEST_SECONDS, killed, killed_again, out_of_space, some, torn
from crashpoints.runner import CrashRunner, Mode, Outcome
from restore_world import NAME, RestoreWorld, checkpoint, contents, flip_pages, pages_of

pytestmark = pytest.mark.timeout(TEST_SECONDS)


class Piece(ABC):
    """A command that only reads `evidence`, and writes into a folder that is empty before."""

    reasons: tuple[str | None, ...] = (None,)  # it has no result but its exit status

    def __init__(self, folder: Path, runner: CrashRunner) -> None:
        self._runner = runner
        self.world = RestoreWorld(folder)
        self.world.fill(12, words=20)
        self.set = self.world.backup()
        self.world.put("d1", "a newer text")
        self.world.put("late", "the last one")
        self.data = self.world.crash("work")
        self.world.close()
        self.out = folder / "out"
        self.prepare()
        self._evidence = {path: path.read_bytes() for path in self.evidence()}

    @abstractmethod
    def prepare(self) -> None: ...

    @abstractmethod
    def evidence(self) -> list[Path]:
        """Files that must stay as they are."""

    @abstractmethod
    def run(self, mode: Mode = Mode.COUNT, at: int = 0) -> Outcome: ...

    @abstractmethod
    def require_whole(self) -> None:
        """What it makes is there, and all of it, or nothing is there under its name."""

    @abstractmethod
    def require_done(self, outcome: Outcome) -> None: ...

    @property
    def folders(self) -> list[Path]:
        return [self.data, self.world.backups, self.out]

    def anew(self) -> None:
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()
        shutil.rmtree(self.data / "maintenance", ignore_errors=True)

    def later(self) -> Outcome:
        return self.run()

    def require_safe(self) -> None:
        assert {path: path.read_bytes() for path in self.evidence()} == self._evidence
        self.require_whole()

    def start(self, command: str, *arguments: object, mode: Mode, at: int) -> Outcome:
        return self._runner.run(f"command_targets:run_{command}", arguments, self.folders, mode=mode, at=at)

    def left(self) -> list[str]:
        return sorted(str(one.relative_to(self.out)) for one in self.out.rglob("*"))


class Salvage(Piece):
    """What can be proved of a damaged file, into one of lines."""

    def prepare(self) -> None:
        checkpoint(self.data)
        flip_pages(self.data / NAME, pages_of(self.data / NAME, "postings")[-1:])
        self.anew()
        assert self.run().result["documents"] > 2
        self._expected = self._made.read_bytes()

    @property
    def _made(self) -> Path:
        return self.out / "recovery.jsonl"

    def evidence(self) -> list[Path]:
        return [self.data / NAME, self.data / f"{NAME}-wal"]

    def run(self, mode: Mode = Mode.COUNT, at: int = 0) -> Outcome:
        return self.start("salvage", self.data / NAME, self._made, mode=mode, at=at)

    def require_whole(self) -> None:
        assert not self._made.exists() or self._made.read_bytes() == self._expected

    def require_done(self, outcome: Outcome) -> None:
        assert outcome.result["exit"] == 0, outcome
        assert self._made.read_bytes() == self._expected
        assert self.left() == [self._made.name]


class Merge(Piece):
    """A backup and what was salvaged, into a new database."""

    def prepare(self) -> None:
        self.anew()
        self._recovery = self.data / "recovery.jsonl"
        assert self.start("salvage", self.data / NAME, self._recovery, mode=Mode.COUNT, at=0).result["exit"] == 0

    @property
    def _made(self) -> Path:
        return self.out / "new.db"

    def evidence(self) -> list[Path]:
        return [self.set / "database.db", self.data / NAME]

    def run(self, mode: Mode = Mode.COUNT, at: int = 0) -> Outcome:
        return self.start("merge", self.set / "database.db", self._recovery, self._made, mode=mode, at=at)

    def require_whole(self) -> None:
        assert not self._made.exists() or contents(self._made, read_only=True) == self.world.acknowledged

    def require_done(self, outcome: Outcome) -> None:
        """One that was killed when all was done refuses the second time: the file is there, and whole."""
        assert outcome.raised is None, outcome.traceback
        assert contents(self._made, read_only=True) == self.world.acknowledged
        assert self.left() == [self._made.name]

    def run_with(self, recovery: Path) -> Outcome:
        return self.start("merge", self.set / "database.db", recovery, self._made, mode=Mode.COUNT, at=0)


class Drill(Piece):
    """The rehearsal of a restore, in a folder that is empty again afterwards."""

    reasons = ("DiskFull", "CannotWrite")

    def prepare(self) -> None:
        self.anew()

    def evidence(self) -> list[Path]:
        return [one for folder in self.folders[:2] for one in sorted(folder.rglob("*")) if self._is_kept(one)]

    def _is_kept(self, path: Path) -> bool:
        return path.is_file() and path.parent.name != "maintenance"

    def run(self, mode: Mode = Mode.COUNT, at: int = 0) -> Outcome:
        return self.start("drill", self.data, self.world.backups, self.out, "again", mode=mode, at=at)

    def require_whole(self) -> None:
        assert {one.split("/")[0] for one in self.left()} <= {"drill-again"}

    def require_done(self, outcome: Outcome) -> None:
        assert outcome.raised is None, outcome.traceback
        assert outcome.result["ok"], outcome.result
        assert self.left() == []
        assert [one.name for one in (self.data / "maintenance").iterdir()] == ["drill-again.json"]


@pytest.fixture(scope="module", params=[Salvage, Merge, Drill])
def piece(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, crash_runner: CrashRunner) -> Piece:
    return request.param(tmp_path_factory.mktemp("piece"), crash_runner)


@pytest.fixture
def merge(tmp_path: Path, crash_runner: CrashRunner) -> Merge:
    return Merge(tmp_path, crash_runner)


def test_killed_at_a_call_and_run_again(piece: Piece) -> None:
    killed(piece, 8)


def test_torn_at_a_write_and_run_again(piece: Piece) -> None:
    torn(piece, 3)


def test_killed_again_during_the_recovery(piece: Piece) -> None:
    killed_again(piece, 3)


@pytest.mark.parametrize("mode", [Mode.FAIL, Mode.FAIL_ON])
def test_out_of_space_at_a_call_is_refused_and_can_be_run_again(piece: Piece, mode: Mode) -> None:
    out_of_space(piece, mode, 6, reasons=piece.reasons)


def test_nothing_of_a_merge_that_was_killed_gets_into_the_next(merge: Merge, tmp_path: Path) -> None:
    """Its log lies beside the file that the next one begins with: SQLite would take it for that file's."""
    nothing = tmp_path / "nothing.jsonl"
    nothing.touch()
    merge.anew()
    log = merge.run().log
    swap = next(at for at, call in enumerate(log, start=1) if call.name == "rename" and call.other.endswith("new.db"))
    backed_up = contents(merge.set / "database.db", read_only=True)
    assert backed_up != merge.world.acknowledged
    for at in some(range(1, swap), 12):
        merge.anew()
        assert merge.run(Mode.BEFORE, at).is_killed
        outcome = merge.run_with(nothing)
        assert outcome.result["exit"] == 0, (at, outcome)
        assert contents(merge.out / "new.db", read_only=True) == backed_up, at
