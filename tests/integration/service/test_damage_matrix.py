"""Every kind of damage: named rightly, repaired by the right command, and its loss within what is stated."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from knowledgebeast_service.maintenance.check import check
from knowledgebeast_service.maintenance.restore.classify import classify
from knowledgebeast_service.maintenance.restore.reindex import reindex
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.head_mark import mark_path
from restore_world import (
    NAME,
    RestoreWorld,
    checkpoint,
    contents,
    embedded,
    flip_pages,
    pages_of,
    queued,
    run_restore,
    schema_names,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> RestoreWorld:
    """A backup, then shipped changes, then some that were not shipped; the last ones only in the -wal."""
    world = RestoreWorld(tmp_path_factory.mktemp("matrix"))
    world.fill(60)
    world.fill(5, project="q", seed=3)
    world.embed()
    early = world.crash("early")
    world.backup()
    world.fill(20, seed=2, first=50)
    world.delete("d3")
    world.ship()
    world.database.write_now(lambda connection: None)
    checkpoint(world.data)
    world.put("late", "not shipped, and only in the log")
    world.delete("d4")
    world.embed()
    world.crash("template")
    shutil.copyfile(early / f"{NAME}-wal", world.folder / "early-wal")
    world.close()
    return world


@pytest.fixture
def data(world: RestoreWorld, tmp_path: Path) -> Path:
    shutil.copytree(world.folder / "template", tmp_path / "data")
    shutil.copyfile(world.folder / "early-wal", tmp_path / "early-wal")
    return tmp_path / "data"


def without_log(data: Path) -> Path:
    """Everything in the file itself, as after an orderly stop."""
    connection = Connection(data / NAME)
    connection.close()
    assert not (data / f"{NAME}-wal").exists()
    return data / NAME


def cut(share: float) -> Callable[[Path], None]:
    def inflict(data: Path) -> None:
        path = without_log(data)
        os.truncate(path, int(path.stat().st_size * share))

    return inflict


def in_free_pages(data: Path) -> None:
    path = without_log(data)
    connection = Connection(path)
    connection.execute("CREATE TABLE gone (x); INSERT INTO gone SELECT text FROM chunks; DROP TABLE gone")
    connection.close()
    first = int.from_bytes(path.read_bytes()[32:36], "big")  # the first page of the list
    with path.open("r+b") as file:
        file.seek((first - 1) * 4096 + 4)
        file.write((9999).to_bytes(4, "big"))


def replaced_by(content: bytes) -> Callable[[Path], None]:
    def inflict(data: Path) -> None:
        (data / NAME).write_bytes(content)

    return inflict


def another_application(data: Path) -> None:
    without_log(data).unlink()
    connection = Connection(data / NAME)
    connection.execute("CREATE TABLE notes (text); INSERT INTO notes VALUES ('theirs'); PRAGMA journal_mode = DELETE")
    connection.close()


def torn(name: str) -> Callable[[Path], None]:
    def inflict(data: Path) -> None:
        flip_pages(without_log(data), pages_of(data / NAME, name)[-1:])

    return inflict


def header(data: Path) -> None:
    path = without_log(data)
    path.write_bytes(b"\0" * 100 + path.read_bytes()[100:])


def dangling(data: Path) -> None:
    connection = Connection(data / NAME)
    connection.execute(
        "DROP TRIGGER outbox_project_deleted; PRAGMA foreign_keys = OFF; DELETE FROM projects WHERE name = 'q'"
    )
    connection.close()


def lost_rows(data: Path) -> None:
    """Rows that went without a trace in the tallies, as with a page that was put back from yesterday."""
    connection = Connection(data / NAME)
    connection.execute(
        "DROP TRIGGER outbox_document_deleted; PRAGMA foreign_keys = OFF;"
        "DELETE FROM postings WHERE chunk_id IN (SELECT id FROM chunks WHERE document_id = 7);"
        "DELETE FROM chunks WHERE document_id = 7; DELETE FROM documents WHERE id = 7"
    )
    connection.close()


def removed_log(data: Path) -> None:
    (data / f"{NAME}-wal").unlink()


def stale_log(data: Path) -> None:
    """A -wal of another time beside a newer file."""
    without_log(data)
    shutil.copyfile(data.with_name("early-wal"), data / f"{NAME}-wal")


def cut_log(data: Path) -> None:
    log = data / f"{NAME}-wal"
    os.truncate(log, log.stat().st_size // 2)
    header_only = (data / NAME).read_bytes()
    (data / NAME).write_bytes(b"\0" * 100 + header_only[100:])


DAMAGES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "a table": ("pages", torn("chunks")),
    "another table": ("pages", torn("terms")),
    "the outbox": ("pages", torn("outbox")),
    "the counters": ("pages", torn("sqlite_sequence")),
    "the header": ("not-a-database", header),
    "cut at nine tenths": ("pages", cut(0.9)),
    "cut in the middle": ("pages", cut(0.5)),
    "cut after the header": ("pages", cut(0.001)),
    "zero length": ("empty", lambda data: os.truncate(without_log(data), 0)),
    "missing": ("missing", lambda data: without_log(data).unlink()),
    "missing, with the log left behind": ("missing", lambda data: (data / NAME).unlink()),
    "a text in its place": ("not-a-database", replaced_by(b"some text\n" * 2000)),
    "of another application": ("schema", another_application),
    "rows that refer to nothing": ("pages", dangling),
    "rows lost without a trace": ("pages", lost_rows),
    "its log removed": ("pages", removed_log),
    "a stale log": ("pages", stale_log),
    "a cut log": ("not-a-database", cut_log),
}


@pytest.mark.parametrize("has_mark", [True, False])
@pytest.mark.parametrize("kind", DAMAGES)
def test_is_named_and_restored_within_the_stated_loss(
    world: RestoreWorld, data: Path, kind: str, has_mark: bool
) -> None:
    damage, inflict = DAMAGES[kind]
    inflict(data)
    if not has_mark:  # as on a volume that no release with a mark has had
        mark_path(data / NAME).unlink()
    found = check(data / NAME, "c1", world.backups)
    assert not found.ok
    assert found.measured["damage"] == damage, found
    result = run_restore(data, world.backups, approve_loss=True)
    assert result.ok, result
    assert check(data / NAME, "c2", world.backups).ok
    restored = contents(data / NAME)
    lost = {key for key, text in world.acknowledged.items() if restored.get(key) != text}
    loss = cast("dict[str, object]", result.measured["loss"])
    upper = cast("int | None", loss["documents_upper"])
    assert cast("int", loss["documents_lower"]) <= len(lost)
    assert upper is not None or not has_mark
    assert upper is None or len(lost) <= upper
    assert lost <= {("p", "late")}, "what was backed up or shipped is there"
    assert restored["p", "d50"] == world.acknowledged["p", "d50"]
    # And every vector is that of its text; where none could be had, the document waits for the model.
    assert embedded(data / NAME) | queued(data / NAME, "embed") == {key for _, key in restored}


@pytest.mark.parametrize("kind", ["index", "free list"])
def test_what_is_only_in_indexes_needs_no_backup(world: RestoreWorld, data: Path, kind: str) -> None:
    torn("sqlite_autoindex_chunks_1")(data) if kind == "index" else in_free_pages(data)
    assert check(data / NAME, "c1").measured["damage"] == "index"
    assert run_restore(data, world.backups).reason == "ReindexSuffices"
    result = reindex(data / NAME, "a1", lock_wait_seconds=0)
    assert result.ok, result
    assert contents(data / NAME) == world.acknowledged
    assert check(data / NAME, "c2", world.backups).ok


def test_a_torn_page_of_any_index_is_index_damage_and_of_any_table_is_not(data: Path) -> None:
    whole = without_log(data).read_bytes()
    for kind, name in schema_names(data / NAME):
        page = pages_of(data / NAME, name)[-1]
        flip_pages(data / NAME, [page])
        assert classify(data / NAME).finding.damage == {"index": "index", "table": "pages"}[kind], name
        (data / NAME).write_bytes(whole)


def test_page_damage_is_not_reindexed(data: Path) -> None:
    torn("chunks")(data)
    before = (data / NAME).read_bytes()
    result = reindex(data / NAME, "a1", lock_wait_seconds=0)
    assert (result.ok, result.reason) == (False, "NeedsRestore")
    assert (data / NAME).read_bytes() == before
    assert not (data / "restore.json").exists()


def test_an_empty_volume_is_not_corruption(world: RestoreWorld, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert check(empty / NAME, "c1").measured["damage"] == "wrong-volume"
    assert run_restore(empty, world.backups).reason == "WrongVolume"
    assert [path.name for path in empty.iterdir()] == [f"{NAME}.lock"]
    new = run_restore(empty, world.backups, "a2", new_volume=True)
    assert new.ok, new
    assert contents(empty / NAME)["p", "d50"] == world.acknowledged["p", "d50"]


def test_an_older_file_in_its_place_is_noticed_by_what_the_backup_has(world: RestoreWorld, data: Path) -> None:
    older = RestoreWorld(data.parent / "older")
    older.close()
    without_log(data)
    for sets in (world.backups / "sets").iterdir():
        shutil.copyfile(sets / "database.db", data / NAME)
    assert check(data / NAME, "c1").ok
    found = check(data / NAME, "c2", world.backups)
    assert "an older file was put in its place" in str(found.measured["problems"])
