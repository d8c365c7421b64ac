"""A clean that is killed at any call that changes files, or finds the disk full: the next run ends where one would."""

import gzip
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backup_world import fill, make_set
from crash_trials import TEST_SECONDS, copy_tree, killed, killed_again, out_of_space, torn
from crashpoints.runner import CrashRunner, Mode, Outcome
from knowledgebeast_service.maintenance.backups.catalogue import newest_good
from knowledgebeast_service.storage.database import Database

LOG = b'{"level": "info"}\n' * 500
pytestmark = pytest.mark.timeout(TEST_SECONDS)


class Clean:
    """A data folder with something of each kind to remove, and backups; both can be put back as they were."""

    def __init__(self, folder: Path, runner: CrashRunner) -> None:
        self.data, self.backups = folder / "data", folder / "backups"
        self._before = folder / "before"
        self._runner = runner
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
        for one in self.folders:
            copy_tree(one, self._before / one.name)
        assert self.run().raised is None
        self.expected = self.files()

    @property
    def folders(self) -> list[Path]:
        return [self.data, self.backups]

    def anew(self) -> None:
        for one in self.folders:
            copy_tree(self._before / one.name, one)

    def run(self, mode: Mode = Mode.COUNT, at: int = 0, attempt: str = "again") -> Outcome:
        arguments = [self.data, self.backups, attempt]
        return self._runner.run("command_targets:run_clean", arguments, self.folders, mode=mode, at=at)

    def later(self) -> Outcome:
        """Under another id: what could not be removed is no failure, so the result of the first is kept."""
        return self.run(attempt="later")

    def files(self) -> set[str]:
        found = (*self.data.rglob("*"), *(self.backups / "sets").rglob("*"))
        return {str(path) for path in found if path.is_file() and path.parent.name != "maintenance"}

    def require_safe(self) -> None:
        verified = newest_good(self.backups)
        assert verified is not None
        assert verified.id == self.good
        database = (self.data / "knowledgebeast.db").read_bytes()
        assert database == (self._before / "data" / "knowledgebeast.db").read_bytes()
        logs = [one for one in (self.data / "logs").iterdir() if ".x." not in one.name and one.suffix != ".tmp"]
        assert {_content(one) for one in logs} == {LOG}

    def require_done(self, outcome: Outcome) -> None:
        assert outcome.raised is None, outcome.traceback
        assert outcome.result["ok"], outcome.result
        assert self.files() == self.expected
        (log,) = (self.data / "logs").iterdir()
        assert gzip.decompress(log.read_bytes()) == LOG
        results = [one.name for one in (self.data / "maintenance").iterdir() if one.suffix == ".json"]
        assert f"{outcome.result['task']}-{outcome.result['attempt']}.json" in results


def _content(log: Path) -> bytes:
    return gzip.decompress(log.read_bytes()) if log.suffix == ".gz" else log.read_bytes()


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory, crash_runner: CrashRunner) -> Clean:
    return Clean(tmp_path_factory.mktemp("clean"), crash_runner)


def test_a_kill_at_a_call_costs_neither_the_newest_backup_nor_a_log(clean: Clean) -> None:
    killed(clean, 20)


def test_a_write_that_is_torn_costs_no_log(clean: Clean) -> None:
    torn(clean, 4)


def test_a_kill_during_the_next_run_costs_neither(clean: Clean) -> None:
    killed_again(clean, 6)


@pytest.mark.parametrize("mode", [Mode.FAIL, Mode.FAIL_ON])
def test_out_of_space_at_a_call_costs_nothing_and_the_next_run_ends_it(clean: Clean, mode: Mode) -> None:
    out_of_space(clean, mode, 8, reasons=())


def test_a_full_disk_keeps_nothing_from_being_removed(clean: Clean) -> None:
    clean.anew()
    outcome = clean.run(Mode.FAIL_ON, 1)
    assert outcome.raised is None, outcome.traceback
    assert outcome.result["ok"]
    left = {Path(name).name for name in clean.files()}
    assert "kb.log.1" in left  # there is no room to compress it in
    assert not {"old", "kb.log.x.gz", "chroma.sqlite3"} & left
    clean.require_safe()  # a full disk that takes no rename, either, keeps the old set as well
