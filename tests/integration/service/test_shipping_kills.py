"""Shippers that are killed: at every call that changes files, and at random instants under writes."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

import shipping_world
from backup_world import fill, prepared, put, random_text
from crashpoints.runner import CrashRunner, Mode, Outcome, build_shim
from knowledgebeast_service.shipping.segments import changes_folder, read_changes, read_lines, segments, survey
from knowledgebeast_service.shipping.writer import read_position
from knowledgebeast_service.storage import outbox
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.documents import delete_document
from shipping_world import replayed, stored

KILLS = int(os.environ.get("SHIPPING_KILLS", "12"))
SEGMENT_BYTES = 1500


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Generator[CrashRunner]:
    with CrashRunner(build_shim(tmp_path_factory.mktemp("shim")), ["shipping_world"]) as runner:
        yield runner


@pytest.fixture
def database(tmp_path: Path) -> Generator[Database]:
    opened = Database(tmp_path / "data" / "knowledgebeast.db")
    opened.open()
    yield opened
    opened.close()


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    (tmp_path / "backups").mkdir()
    return tmp_path / "backups"


@pytest.mark.timeout(120)
def test_a_kill_at_every_call_loses_nothing_that_was_said_to_be_safe(
    runner: CrashRunner, database: Database, backups: Path
) -> None:
    fill(database, documents=9)
    database.write_now(lambda connection: delete_document(connection, "p", "d3"))
    identity = database.read_now(outbox.database_id)

    def ship(mode: Mode = Mode.COUNT, at: int = 0) -> Outcome:
        arguments = [database.path.parent, backups, SEGMENT_BYTES]
        return runner.run("shipping_world:ship_once", arguments, backups, mode=mode, at=at)

    whole = ship()
    assert whole.raised is None, whole.traceback
    assert whole.result == 11
    assert len(segments(changes_folder(backups, identity))) > 2
    for mode in (Mode.BEFORE, Mode.TORN):
        for at in range(1, whole.calls + 1):
            shutil.rmtree(backups)
            backups.mkdir()
            assert ship(mode, at).is_killed
            found = survey(backups, 0, identity)
            assert found.is_complete
            assert found.last >= read_position(changes_folder(backups, identity))
            again = ship()
            assert again.result == 11, (mode, at, again.traceback)
            found = survey(backups, 0, identity)
            assert (found.last, found.missing, found.problems) == (11, (), ()), (mode, at)
            assert replayed(read_changes(backups, 0, identity)) == database.read_now(stored)


class Writing:
    """Acknowledged changes at random, until stopped."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        chosen = random.Random(7)
        known: set[str] = set()
        while not self._stop.is_set():
            name = f"d{chosen.randrange(60)}"
            if name in known and chosen.random() < 0.3:
                self._database.write_now(lambda connection, name=name: delete_document(connection, "p", name))
                known.remove(name)
            else:
                put(self._database, "p", [prepared(name, random_text(chosen, 40))])
                known.add(name)
            time.sleep(0.002)

    def __enter__(self) -> "Writing":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def start(database: Database, backups: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, shipping_world.__file__, database.path, backups], env=environment)


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@pytest.mark.timeout(180)
def test_replicas_killed_under_writes_ship_every_change_once_and_none_is_lost(
    database: Database, backups: Path
) -> None:
    """Two shippers stand by for each other; whichever is killed, the other one goes on from the last safe change."""
    identity = database.read_now(outbox.database_id)
    folder = changes_folder(backups, identity)
    fill(database, documents=5)
    chosen = random.Random(3)
    shippers = [start(database, backups), start(database, backups)]
    try:
        with Writing(database):
            for _ in range(KILLS):
                before = read_position(folder)
                until(lambda before=before: read_position(folder) > before + 5)
                time.sleep(chosen.uniform(0, 0.3))
                victim = chosen.randrange(2)
                safe = read_position(folder)
                shippers[victim].send_signal(signal.SIGKILL)
                shippers[victim].wait()
                found = survey(backups, 0, identity)
                assert found.is_complete
                assert found.last >= safe
                shippers[victim] = start(database, backups)
        newest = database.read_now(outbox.head)
        until(lambda: read_position(folder) == newest)
    finally:
        for one in shippers:
            one.kill()
            one.wait()
    found = survey(backups, 0, identity)
    assert (found.last, found.missing, found.problems) == (newest, (), ())
    assert replayed(read_changes(backups, 0, identity)) == database.read_now(stored)
    lines = sum(1 for segment in segments(folder) for _ in read_lines(segment))
    print(f"{KILLS} kills, {newest} changes in {lines} lines of {len(segments(folder))} segments")
    assert lines == newest
