"""Copies of backups in a real S3-compatible server (versitygw on a folder), built from Go modules once and cached."""

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest
from pydantic import SecretStr

from backup_world import fill, make_set, prepared, put, random_text
from knowledgebeast_operator.operands import effective
from knowledgebeast_operator.operands.bootstrap import bootstrap_job
from knowledgebeast_service.maintenance.backups import remote
from knowledgebeast_service.maintenance.backups.catalogue import judge
from knowledgebeast_service.maintenance.backups.create import backup
from knowledgebeast_service.maintenance.backups.manifest import DATABASE, MANIFEST
from knowledgebeast_service.maintenance.backups.remote import RemoteError, RemoteSets, RemoteSettings
from knowledgebeast_service.maintenance.backups.retention import Retention
from knowledgebeast_service.maintenance.restore.restore import Wanted, restore
from knowledgebeast_service.maintenance.result import TaskResult
from knowledgebeast_service.storage.database import Database
from local_cluster import gobuild, paths
from local_cluster.artifacts import ArtifactCache
from local_cluster.errors import ClusterError
from operand_objects import at, knowledge_beast, operands
from restore_world import contents

BUCKET = "backups"
BUILD_SECONDS = 900  # with nothing in Go's own cache, on a busy machine; seconds where the binary is there
pytestmark = pytest.mark.timeout(BUILD_SECONDS)


@dataclass(frozen=True)
class Server:
    folder: Path
    settings: RemoteSettings

    def sets(self) -> RemoteSets:
        return RemoteSets(self.settings)

    def path(self, set_id: str, name: str) -> Path:
        return self.folder / BUCKET / "demo" / "sets" / set_id / name


@pytest.fixture(scope="module")
def binary() -> Path:
    go = gobuild.installed_version()
    if not go:
        pytest.skip("no Go compiler to build an S3 server with (hack/setup.sh --with-go installs one)")
    try:
        folder = gobuild.build(gobuild.S3, ArtifactCache(paths.cache().artifacts), go)
    except ClusterError as error:
        pytest.skip(f"the S3 server could not be built: {str(error).splitlines()[0]}")
    return folder / "versitygw"


@pytest.fixture
def server(binary: Path, tmp_path: Path) -> Generator[Server]:
    folder = tmp_path / "objects"
    (folder / BUCKET).mkdir(parents=True)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    command = [str(binary), "--access", "key", "--secret", "secret", "--port", address, "posix", str(folder)]
    with (tmp_path / "server.log").open("wb") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _until_listening(address)
        settings = RemoteSettings(
            bucket=BUCKET,
            endpoint=f"http://{address}",
            prefix="demo/",
            access_key_id=SecretStr("key"),
            secret_access_key=SecretStr("secret"),
        )
        yield Server(folder, settings)
    finally:
        running.kill()
        running.wait()


def _until_listening(address: str) -> None:
    host, _, port = address.partition(":")
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection((host, int(port)), 1).close()
        except OSError:
            assert time.monotonic() < deadline, "the S3 server does not listen"
            time.sleep(0.05)
        else:
            return


@pytest.fixture
def database(tmp_path: Path) -> Generator[Database]:
    opened = Database(tmp_path / "data" / "knowledgebeast.db")
    opened.open()
    fill(opened)
    yield opened
    opened.close()


def test_a_set_comes_back_as_it_went(server: Server, database: Database, tmp_path: Path) -> None:
    folder = make_set(database.path, tmp_path / "backups")
    server.sets().upload(folder)
    assert [one.id for one in server.sets().manifests()] == [folder.name]
    fetched = server.sets().fetch(folder.name, tmp_path / "elsewhere")
    assert judge(fetched).ok
    assert (fetched / DATABASE).read_bytes() == (folder / DATABASE).read_bytes()


def test_a_large_one_goes_in_parts_each_with_its_checksum(
    server: Server, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "PART_BYTES", 5 * 1024 * 1024)
    chosen = random.Random(1)
    put(database, "p", [prepared(f"long{n}", random_text(chosen, 100_000)) for n in range(24)])
    folder = make_set(database.path, tmp_path / "backups")
    assert (folder / DATABASE).stat().st_size > 2 * remote.PART_BYTES
    server.sets().upload(folder)
    assert judge(server.sets().fetch(folder.name, tmp_path / "elsewhere")).ok


def test_a_set_is_listed_only_when_it_is_whole_and_an_interrupted_upload_is_made_good(
    server: Server, database: Database, tmp_path: Path
) -> None:
    folder = make_set(database.path, tmp_path / "backups")
    server.sets().upload(folder)
    server.path(folder.name, MANIFEST).unlink()
    server.path(folder.name, DATABASE).write_bytes(b"half")
    assert server.sets().manifests() == []
    server.sets().upload(folder)
    assert judge(server.sets().fetch(folder.name, tmp_path / "elsewhere")).ok


def test_a_copy_that_rotted_is_not_taken(server: Server, database: Database, tmp_path: Path) -> None:
    folder = make_set(database.path, tmp_path / "backups")
    server.sets().upload(folder)
    there = server.path(folder.name, DATABASE)
    content = bytearray(there.read_bytes())
    content[-100] ^= 1
    there.write_bytes(content)
    with pytest.raises(RemoteError, match="WrongChecksum"):
        server.sets().fetch(folder.name, tmp_path / "elsewhere")
    assert list((tmp_path / "elsewhere" / "sets").iterdir()) == []


def test_old_copies_go_but_never_the_newest_whole_one(server: Server, database: Database, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    ages = (90, 80, 70)
    folders = [make_set(database.path, tmp_path / "backups", now - timedelta(days=days)) for days in ages]
    for folder in folders:
        server.sets().upload(folder)
    server.path(folders[2].name, DATABASE).write_bytes(b"half")
    assert server.sets().prune(Retention()) == [folders[0].name, folders[2].name]
    assert [one.id for one in server.sets().manifests()] == [folders[1].name]
    assert not server.path(folders[0].name, DATABASE).exists()


def test_a_wrong_key_an_absent_set_and_no_server_are_said_in_a_sentence(server: Server, tmp_path: Path) -> None:
    wrong = server.settings.model_copy(update={"secret_access_key": SecretStr("wrong")})
    with pytest.raises(RemoteError, match="403") as refused:
        RemoteSets(wrong).manifests()
    assert "wrong" not in str(refused.value)
    with pytest.raises(RemoteError, match="it is not there"):
        server.sets().fetch("20200101T000000Z-1", tmp_path)
    with pytest.raises(RemoteError, match="BACKUP_S3_BUCKET"):
        RemoteSets(RemoteSettings())
    with pytest.raises(RemoteError, match="BACKUP_S3_ACCESS_KEY_ID"):
        RemoteSets(RemoteSettings(bucket=BUCKET))


def test_a_link_that_is_too_slow_costs_the_copy_its_time_and_no_more(
    server: Server, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_set(database.path, tmp_path / "backups")
    with monkeypatch.context() as slow:
        slow.setattr(remote, "COPY_SECONDS", 0.001)
        with pytest.raises(RemoteError, match="not done within"):
            server.sets().upload(folder)
    assert server.sets().manifests() == []
    server.sets().upload(folder)
    assert judge(server.sets().fetch(folder.name, tmp_path / "elsewhere")).ok


def test_another_object_at_the_same_place_loses_no_set(server: Server, database: Database, tmp_path: Path) -> None:
    other = Database(tmp_path / "other" / "knowledgebeast.db")
    other.open()
    fill(other)
    other.close()
    now = datetime.now(UTC)
    theirs = make_set(other.path, tmp_path / "their-backups", now - timedelta(days=80))
    ours = make_set(database.path, tmp_path / "backups", now)
    for folder in (theirs, ours):
        server.sets().upload(folder)
    assert server.sets().prune(Retention()) == []
    assert [one.id for one in server.sets().manifests()] == [ours.name, theirs.name]


def test_a_backup_is_copied_and_a_storage_that_is_away_does_not_cost_it(
    server: Server, database: Database, tmp_path: Path
) -> None:
    backups = tmp_path / "backups"
    result = backup(database.path, backups, "a", Retention(), server.settings)
    assert result.ok
    assert result.measured["remote"] == {"ok": True, "to": "s3://backups/demo/", "pruned": 0}
    shutil.rmtree(backups)
    assert judge(server.sets().fetch(str(result.measured["backup_id"]), backups)).ok
    away = server.settings.model_copy(update={"bucket": "another"})
    result = backup(database.path, backups, "b", Retention(), away)
    assert result.ok
    said = result.measured["remote"]
    assert isinstance(said, dict)
    assert said["ok"] is False


# A new object


def from_remote(server: Server, tmp_path: Path, **asked: object) -> TaskResult:
    wanted = Wanted("first", new_volume=True, approve_loss=True, remote=server.settings)
    (tmp_path / "new").mkdir(exist_ok=True)
    return restore(tmp_path / "new" / "knowledgebeast.db", tmp_path / "scratch", replace(wanted, **asked))


def uploaded(server: Server, database: Database, tmp_path: Path, *ages_in_days: int) -> list[str]:
    """Ids of sets in the storage."""
    now = datetime.now(UTC)
    folders = [make_set(database.path, tmp_path / "backups", now - timedelta(days=days)) for days in ages_in_days]
    for folder in folders:
        server.sets().upload(folder)
    return [folder.name for folder in folders]


def test_a_new_volume_takes_the_newest_good_copy_and_says_what_it_passed_over(
    server: Server, database: Database, tmp_path: Path
) -> None:
    oldest, good, rotten, half = uploaded(server, database, tmp_path, 4, 3, 2, 1)
    server.path(rotten, DATABASE).write_bytes(b"x" * server.path(rotten, DATABASE).stat().st_size)
    server.path(half, DATABASE).unlink()
    result = from_remote(server, tmp_path)
    assert (result.ok, result.measured["backup_id"]) == (True, good), result
    skipped = cast("list[dict[str, str]]", result.measured["skipped"])
    assert [(one["id"], one["reason"]) for one in skipped] == [(half, "BadCopy"), (rotten, "BadCopy")]
    shutil.rmtree(tmp_path / "new")
    assert from_remote(server, tmp_path, backup=oldest, only_backup=True).measured["backup_id"] == oldest


def test_without_a_usable_copy_nothing_is_begun_and_the_reason_is_told(
    server: Server, database: Database, tmp_path: Path
) -> None:
    (only,) = uploaded(server, database, tmp_path, 1)
    assert from_remote(server, tmp_path, backup="20200101T000000Z-1").reason == "UnknownBackup"
    away = server.settings.model_copy(update={"endpoint": "http://127.0.0.1:1"})
    assert from_remote(server, tmp_path, remote=away).reason == "RemoteUnavailable"
    server.path(only, DATABASE).write_bytes(b"")
    refused = from_remote(server, tmp_path)
    assert refused.reason == "NoVerifiedBackup"
    assert only in str(refused.refused)
    assert not (tmp_path / "new" / "knowledgebeast.db").exists()


def test_a_volume_that_holds_a_database_is_not_touched_and_nothing_is_fetched(
    server: Server, database: Database, tmp_path: Path
) -> None:
    uploaded(server, database, tmp_path, 1)
    assert from_remote(server, tmp_path).ok
    shutil.rmtree(tmp_path / "scratch")
    assert from_remote(server, tmp_path, attempt="second").reason == "NothingToRepair"
    assert not (tmp_path / "scratch").exists()


# As Kubernetes runs it


CONTAINER = ("spec", "template", "spec", "containers", 0)
SECRET = {"accessKeyId": "key", "secretAccessKey": "secret"}


def run_container(container: object, folders: Mapping[str, Path], attempt: str) -> TaskResult:
    """The container of a Job as a process here: its own command and variables, with other folders."""

    def here(word: str) -> str:
        for folder, path in folders.items():
            if word == folder or word.startswith(f"{folder}/"):
                return f"{path}{word.removeprefix(folder)}"
        return word.replace("$(ATTEMPT_ID)", attempt)

    program, *words = cast("list[str]", at(container, "command"))
    variables = cast("list[Mapping[str, str]]", at(container, "env"))
    given = {one["name"]: here(one["value"]) for one in variables if "value" in one}
    by_reference = [one for one in variables if one["name"].startswith("BACKUP_S3") and "valueFrom" in one]
    keys = {one["name"]: SECRET[str(at(one, "valueFrom", "secretKeyRef", "key"))] for one in by_reference}
    done = subprocess.run(
        [str(Path(sys.executable).parent / program), *map(here, words)],
        env={"PATH": os.environ["PATH"], "HOME": str(folders["/data"]), **given, **keys},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return TaskResult(**json.loads(done.stdout))


def test_what_the_job_of_a_backup_has_copied_the_job_of_a_new_object_restores(
    server: Server, database: Database, tmp_path: Path
) -> None:
    remote = {
        "bucket": BUCKET,
        "prefix": "search/demo/",
        "endpoint": server.settings.endpoint,
        "credentialsSecretRef": {"name": "s3-keys"},
    }
    spec = {"database": {"backup": {"remote": remote}}}
    cron = at(operands(spec)["CronJob", "demo-backup"], "spec", "jobTemplate", *CONTAINER)
    volumes = {"/data": database.path.parent, "/backups": tmp_path / "backups"}
    copied = run_container(cron, volumes, "demo-backup-1")
    assert copied.measured["remote"] == {"ok": True, "to": "s3://backups/search/demo/", "pruned": 0}
    shutil.rmtree(tmp_path / "backups")

    new = knowledge_beast({"bootstrap": {"restoreFrom": {"remote": remote}}}, name="again")
    source = new.spec.bootstrap.restore_from
    assert source is not None
    job = bootstrap_job(new, effective(new, default_image="i"), source)
    container = at(job, *CONTAINER)
    folders = {"/data": tmp_path / "new", "/backups": tmp_path / "own", "/scratch": tmp_path / "scratch"}
    for folder in folders.values():
        folder.mkdir()
    restored = run_container(container, folders, "again-bootstrap")

    assert restored.measured["backup_id"] == copied.measured["backup_id"]
    assert contents(tmp_path / "new" / "knowledgebeast.db") == contents(database.path) != {}
    assert [one.name for one in (tmp_path / "own" / "sets").iterdir() if one.is_dir()] == [
        restored.measured["base_backup_id"]
    ]
