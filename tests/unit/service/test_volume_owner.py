"""A volume says whose it is: its owner comes back under its name, and nobody else writes a byte to it."""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from knowledgebeast_service.cli.app import app
from knowledgebeast_service.errors import DatabaseError, StartupError
from knowledgebeast_service.main import create_app
from knowledgebeast_service.maintenance.adopt import NotAdoptedError, adopt
from knowledgebeast_service.maintenance.backups.catalogue import Expected, judge_all
from knowledgebeast_service.maintenance.backups.create import backup
from knowledgebeast_service.maintenance.backups.drill import drill
from knowledgebeast_service.maintenance.backups.manifest import read_manifest, sets_folder
from knowledgebeast_service.maintenance.backups.retention import Retention
from knowledgebeast_service.maintenance.restore.base import with_base
from knowledgebeast_service.settings import Settings
from knowledgebeast_service.storage import volume, watch
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.documents import upsert_documents
from knowledgebeast_service.storage.queries import change_head
from knowledgebeast_service.storage.volume import read_identity
from restore_world import NAME, RestoreWorld, contents, document, run_restore

OURS, THEIRS = "search/ours", "search/theirs"
MAINTENANCE: dict[str, tuple[str, ...]] = {
    "check": (),
    "reindex": (),
    "restore": ("--backup", "latest"),
    "restore onto a new volume": ("--new-volume", "--approve-loss"),
    "put-back": ("--of", "a1"),
    "backup": (),
    "drill": (),
    "vacuum": (),
    "clean": (),
    "rebuild-collection": ("--project", "p"),
    "warm": (),
}


def world_of(folder: Path, owner: str | None, documents: int = 5) -> RestoreWorld:
    world = RestoreWorld(folder, owner=owner)
    world.fill(documents)
    return world


@pytest.fixture
def theirs(tmp_path: Path) -> RestoreWorld:
    """The whole volume of another object, with a backup of its own, and nobody on it."""
    world = world_of(tmp_path / "theirs", THEIRS)
    world.backup()
    world.close()
    return world


@pytest.fixture
def foreign(theirs: RestoreWorld) -> Path:
    """Their volume as we see it; without the files that only a process that has it open makes."""
    for lock in theirs.data.glob("*lock*"):
        lock.unlink()
    return theirs.data


def everything_in(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file with its content and its last change."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def owner_of(data: Path) -> str | None:
    identity = read_identity(data)
    assert identity is not None
    return identity.owner


def opened(data: Path, owner: str | None) -> Database:
    database = Database(data / NAME, owner=owner)
    database.open(volume_lock_wait_seconds=0)
    return database


def test_the_first_start_records_whose_it_is_and_the_owner_comes_back_under_its_name(tmp_path: Path) -> None:
    for _ in range(2):  # the second time it is another object with another uid
        database = opened(tmp_path, OURS)
        assert database.is_open
        database.close()
    identity = read_identity(tmp_path)
    assert identity is not None
    assert (identity.owner, identity.has_database) == (OURS, True)


@pytest.mark.parametrize("left", ["no owner", "no identity"])
def test_a_volume_from_before_gets_it_at_its_first_open(tmp_path: Path, left: str) -> None:
    opened(tmp_path, None).close()
    before = read_identity(tmp_path)
    if left == "no identity":
        (tmp_path / volume.NAME).unlink()
    opened(tmp_path, OURS).close()
    after = read_identity(tmp_path)
    assert before is not None
    assert after is not None
    assert (after.owner, after.has_database) == (OURS, True)
    assert (after.volume_id == before.volume_id) == (left == "no owner")


def test_a_full_disk_keeps_nobody_from_reading_what_has_no_owner_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world_of(tmp_path, None).close()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(volume, "write_file", full)
        database = opened(tmp_path / "data", OURS)
    assert database.read_now(change_head) >= 5
    database.close()
    assert owner_of(tmp_path / "data") is None
    opened(tmp_path / "data", OURS).close()
    assert owner_of(tmp_path / "data") == OURS


def test_the_volume_of_another_is_not_opened_and_not_a_byte_is_written(foreign: Path) -> None:
    before = everything_in(foreign)
    errors: list[str] = []
    database = Database(foreign / NAME, owner=OURS, on_error=errors.append)
    database.open()
    watch.look(database)
    assert (database.is_open, database.is_of_another) == (False, True)
    assert f"is the volume of {THEIRS}, not of {OURS}" in str(database.damage)
    assert set(errors) == {"wrong-volume"}
    for use in (
        lambda: database.read_now(change_head),
        lambda: database.write_now(lambda connection: upsert_documents(connection, "p", [document("x", "text")])),
    ):
        with pytest.raises(DatabaseError, match=THEIRS) as refused:
            use()
        assert refused.value.kind == "wrong-volume"
    database.close()
    assert everything_in(foreign) == before


def test_who_names_no_owner_may_read_any_volume(foreign: Path) -> None:
    database = opened(foreign, None)
    assert database.is_open
    database.close()
    assert owner_of(foreign) == THEIRS


def test_of_two_objects_that_meet_on_a_volume_without_owner_one_gets_it(tmp_path: Path) -> None:
    world_of(tmp_path, None).close()
    databases = [Database(tmp_path / "data" / NAME, owner=f"search/{number}") for number in range(6)]
    together = threading.Barrier(len(databases))

    def start(database: Database) -> None:
        together.wait()
        database.open()

    threads = [threading.Thread(target=start, args=(database,)) for database in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (owner,) = [f"search/{number}" for number, database in enumerate(databases) if database.is_open]
    assert owner_of(tmp_path / "data") == owner
    for database in databases:
        database.close()


@pytest.mark.parametrize("task", MAINTENANCE)
def test_no_task_touches_the_volume_of_another(
    task: str, foreign: Path, theirs: RestoreWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOLUME_OWNER", OURS)
    monkeypatch.setenv("BACKUP_DIR", str(theirs.backups))
    monkeypatch.setenv("TERMINATION_LOG", str(tmp_path / "last-word"))
    (tmp_path / "last-word").touch()
    before, backups = everything_in(foreign), everything_in(theirs.backups)
    words = ("maintain", task.partition(" ")[0], "--data-dir", str(foreign), "--attempt-id", "a1", *MAINTENANCE[task])
    ended = CliRunner().invoke(app, list(words))
    assert ended.exit_code == 1, ended.output
    said = json.loads(ended.stdout.splitlines()[-1])
    assert (said["reason"], said["measured"]["damage"]) == ("WrongVolume", "wrong-volume")
    assert f"maintain adopt --from {THEIRS}" in said["refused"]
    assert json.loads((tmp_path / "last-word").read_text()) == said
    assert (everything_in(foreign), everything_in(theirs.backups)) == (before, backups)


def test_the_owners_own_tasks_run(foreign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOLUME_OWNER", THEIRS)
    ended = CliRunner().invoke(app, ["maintain", "check", "--data-dir", str(foreign), "--attempt-id", "c1"])
    assert (ended.exit_code, json.loads(ended.stdout)["measured"]["damage"]) == (0, "none")


def test_it_is_adopted_by_word_only_from_the_one_who_has_it_and_while_nobody_uses_it(foreign: Path) -> None:
    with pytest.raises(NotAdoptedError, match=f"is the volume of {THEIRS}, not of search/other"):
        adopt(foreign / NAME, OURS, "search/other")
    serving = opened(foreign, THEIRS)
    with pytest.raises(NotAdoptedError, match="other processes have the database open"):
        adopt(foreign / NAME, OURS, THEIRS, lock_wait_seconds=0)
    serving.close()
    waiting = opened(foreign, OURS)
    first = adopt(foreign / NAME, OURS, THEIRS)
    assert adopt(foreign / NAME, OURS, THEIRS) == first
    watch.look(waiting)
    assert waiting.is_open
    waiting.close()
    assert opened(foreign, THEIRS).is_of_another


def test_a_second_objects_backups_are_passed_over_with_the_reason(theirs: RestoreWorld, tmp_path: Path) -> None:
    ours = world_of(tmp_path / "ours", OURS)
    own = ours.backup(datetime.now(UTC) - timedelta(minutes=5))
    made = backup(theirs.data / NAME, ours.backups, "b1", Retention())
    assert made.ok, made
    other = str(made.measured["backup_id"])
    assert read_manifest(sets_folder(ours.backups) / other).owner == THEIRS
    ours.close()
    rehearsed = drill(ours.backups, tmp_path, "d1", Expected.of(read_identity(ours.data)))
    assert (rehearsed.ok, rehearsed.measured["backup_id"]) == (True, own.name)
    named = run_restore(ours.data, ours.backups, "r1", backup=other)
    assert (named.ok, named.reason) == (False, "NoVerifiedBackup")
    (ours.data / NAME).unlink()
    restored = run_restore(ours.data, ours.backups, "r2")
    assert (restored.ok, restored.measured["backup_id"]) == (True, own.name), restored
    skipped = cast("list[dict[str, str]]", restored.measured["skipped"])
    assert skipped == [{"id": other, "reason": "OtherObject", "message": f"it is of {THEIRS}, not of {OURS}"}]
    assert contents(ours.data / NAME) == ours.acknowledged


def test_of_a_copied_volume_only_what_was_backed_up_before_the_adoption_is_ones_own(
    theirs: RestoreWorld, tmp_path: Path
) -> None:
    """A clone has the identity of its original, which goes on; so has every backup of either."""
    shutil.copytree(theirs.data, tmp_path / "clone")
    adopt(tmp_path / "clone" / NAME, OURS, THEIRS)
    later = backup(theirs.data / NAME, theirs.backups, "later", Retention())
    assert later.ok, later
    verdicts = judge_all(theirs.backups, Expected.of(read_identity(tmp_path / "clone")))
    assert [one.reason for one in verdicts] == ["OtherObject", None]
    assert [one.reason for one in judge_all(theirs.backups, Expected.of(read_identity(theirs.data)))] == [None, None]


def test_a_volume_that_was_filled_from_anothers_backups_is_ones_own_and_can_be_backed_up(
    theirs: RestoreWorld, tmp_path: Path
) -> None:
    new, backups = tmp_path / "new", tmp_path / "new-backups"
    new.mkdir()
    filled = run_restore(new, theirs.backups, new_volume=True, owner=OURS)
    assert filled.ok, filled
    based = with_base(filled, new / NAME, backups, lambda _: None)
    assert "findings" not in based.measured, based
    (base,) = judge_all(backups, Expected.of(read_identity(new)))
    assert base.ok
    assert base.manifest is not None
    assert base.manifest.owner == OURS
    (new / NAME).unlink()
    assert opened(new, OURS).damage.damage == "missing"  # and not made anew: the volume has had a database


@pytest.fixture
def client(foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr(watch.until_ours, "__defaults__", (0.05,))
    settings = Settings(
        data_dir=foreign, volume_owner=OURS, model_dir=tmp_path / "absent", chroma_url="http://127.0.0.1:9"
    )
    with TestClient(create_app(settings)) as running:
        yield running


def test_a_service_on_the_volume_of_another_says_so_and_begins_when_it_is_adopted(
    client: TestClient, foreign: Path
) -> None:
    before = everything_in(foreign)
    health = client.get("/health")
    assert health.status_code == 503
    state = health.json()["components"]["database"]
    assert (state["status"], state["reason"]) == ("down", "wrong-volume")
    assert f"maintain adopt --from {THEIRS}" in state["error"]
    assert client.get("/livez").status_code == 200
    assert THEIRS in client.get("/readyz").json()["reason"]
    assert 'kb_component_up{component="database"} 0' in client.get("/metrics").text
    written = {"project": "p", "documents": [{"id": "x", "text": "said to the wrong volume"}]}
    answers = [client.post("/api/v1/ingest", json=written), client.get("/api/v1/query/p?q=anda")]
    assert [answer.status_code for answer in answers] == [503, 503]
    assert everything_in(foreign) == before
    adopt(foreign / NAME, OURS, THEIRS)
    deadline = time.monotonic() + 30
    while client.get("/readyz").status_code != 200:
        assert time.monotonic() < deadline, client.get("/readyz").text
        time.sleep(0.02)
    assert client.post("/api/v1/ingest", json=written).status_code == 202


def test_an_identity_that_cannot_be_read_keeps_a_new_database_from_being_made(tmp_path: Path) -> None:
    (tmp_path / volume.NAME).write_text("[]")
    with pytest.raises(StartupError, match="cannot be read"):
        volume.ensure_identity(tmp_path, OURS)
    assert opened(tmp_path, OURS).damage.damage == "missing"


def test_a_service_that_never_begins_ends_in_order(foreign: Path, tmp_path: Path) -> None:
    before = everything_in(foreign)
    settings = Settings(data_dir=foreign, volume_owner=OURS, model_dir=tmp_path / "absent")
    with TestClient(create_app(settings)) as running:
        assert running.get("/livez").status_code == 200
    assert everything_in(foreign) == before
