import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backup_world import fill, make_set
from knowledgebeast_service.maintenance.backups.catalogue import Expected, judge_all, newest_good
from knowledgebeast_service.maintenance.backups.manifest import DATABASE, MANIFEST, read_manifest, sha256_of
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.volume import read_identity


@pytest.fixture
def good(database: Database, tmp_path: Path) -> Path:
    fill(database)
    return make_set(database.path, tmp_path / "backups")


def test_a_good_set_is_good_and_stays_as_it_is(good: Path, tmp_path: Path) -> None:
    before = {one: one.stat().st_mtime_ns for one in good.iterdir()}
    (verdict,) = judge_all(tmp_path / "backups")
    assert (verdict.ok, verdict.reason, verdict.message) == (True, None, None)
    assert {one: one.stat().st_mtime_ns for one in good.iterdir()} == before


def resigned(folder: Path, content: bytes) -> None:
    """Another database, with a manifest that has its checksum: only looking inside tells."""
    said = read_manifest(folder)
    (folder / DATABASE).write_bytes(content)
    renewed = said.model_copy(update={"size_bytes": len(content), "sha256": sha256_of(folder / DATABASE)})
    (folder / MANIFEST).write_bytes(renewed.encoded())


def change_database(folder: Path, *steps: str) -> None:
    """Changes that the checksum does not tell, each made by a connection of its own."""
    copy = folder.with_name("copy")
    shutil.copy(folder / DATABASE, copy)
    for sql in steps:
        connection = Connection(copy)
        connection.execute("PRAGMA journal_mode = DELETE; PRAGMA foreign_keys = OFF; PRAGMA writable_schema = ON")
        connection.execute(sql)
        connection.close()
    resigned(folder, copy.read_bytes())
    copy.unlink()


def index_out_of_step(folder: Path) -> None:
    """As after the lost write of an index page; quick_check passes over it."""
    index = "name = 'ingest_queue_by_document'"
    change_database(
        folder,
        f"CREATE TABLE kept AS SELECT * FROM sqlite_schema WHERE {index}; DELETE FROM sqlite_schema WHERE {index}",
        "UPDATE ingest_queue SET document_id = 4711 WHERE chunk_id = 3; INSERT INTO sqlite_schema SELECT * FROM kept",
    )
    connection = Connection(folder / DATABASE, read_only=True, immutable=True)
    assert connection.row("PRAGMA quick_check") == ("ok",)
    connection.close()


def flip(folder: Path, offset: int) -> None:
    content = bytearray((folder / DATABASE).read_bytes())
    content[offset] ^= 0x10
    (folder / DATABASE).write_bytes(content)


def name_another_set(folder: Path) -> None:
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text.replace(folder.name, "20200101T000000Z-1"))


def cut(folder: Path) -> None:
    content = (folder / DATABASE).read_bytes()
    (folder / DATABASE).write_bytes(content[: len(content) // 2])


def damage_page(folder: Path) -> None:
    content = bytearray((folder / DATABASE).read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = b"\xa5" * 4096
    resigned(folder, bytes(content))


LOSE_A_DOCUMENT = (
    "DROP TRIGGER outbox_document_deleted; DELETE FROM postings WHERE chunk_id IN (1, 2); "
    "DELETE FROM chunks WHERE document_id = 1; DELETE FROM documents WHERE id = 1"
)
DAMAGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "no manifest": ("NoManifest", lambda folder: (folder / MANIFEST).unlink()),
    "a manifest cut short": ("BadManifest", lambda folder: (folder / MANIFEST).write_text('{"format": 1')),
    "the manifest of another set": ("BadManifest", name_another_set),
    "no database": ("Empty", lambda folder: (folder / DATABASE).unlink()),
    "an empty database": ("Empty", lambda folder: (folder / DATABASE).write_bytes(b"")),
    "a database cut short": ("WrongSize", cut),
    "one bit in a text": ("WrongChecksum", lambda folder: flip(folder, -100)),
    "a damaged page": ("Damaged", damage_page),
    "an index out of step": ("Damaged", index_out_of_step),
    "a text file": ("NotADatabase", lambda folder: resigned(folder, b"this is no database\n" * 500)),
    "a missing table": ("WrongSchema", lambda folder: change_database(folder, "DROP TABLE postings")),
    "a schema from the future": (
        "WrongSchema",
        lambda folder: change_database(folder, "INSERT INTO schema_version VALUES (999, 'x', 0)"),
    ),
    "a broken reference": (
        "BrokenReferences",
        lambda folder: change_database(folder, "UPDATE documents SET project_id = 77 WHERE id = 3"),
    ),
    "a lost document": ("WrongCounts", lambda folder: change_database(folder, LOSE_A_DOCUMENT)),
    "a chunk without postings": (
        "WrongCounts",
        lambda folder: change_database(folder, "DELETE FROM postings WHERE chunk_id = 5"),
    ),
    "texts of other postings": ("NoAnswer", lambda folder: change_database(folder, "UPDATE chunks SET text = 'other'")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_bad_set_is_told_with_its_reason_and_the_older_one_is_taken(
    damage: str, good: Path, database: Database, tmp_path: Path
) -> None:
    backups = tmp_path / "backups"
    bad = make_set(database.path, backups, datetime.now(UTC) + timedelta(seconds=60))
    reason, apply = DAMAGES[damage]
    apply(bad)
    newest, older = judge_all(backups)
    assert (newest.id, newest.ok, newest.reason) == (bad.name, False, reason)
    assert newest.message
    assert older.ok
    found = newest_good(backups)
    assert found is not None
    assert found.id == good.name


def test_an_unfinished_set_is_listed_last_and_never_good(good: Path, tmp_path: Path) -> None:
    shutil.copytree(good, good.with_name(".partial-x"))
    verdicts = judge_all(tmp_path / "backups")
    assert [(one.ok, one.reason) for one in verdicts] == [(True, None), (False, "InProgress")]


def test_a_set_of_another_volume_or_too_old_is_not_good(good: Path, tmp_path: Path) -> None:
    identity = read_identity(tmp_path)
    assert identity is not None
    backups = tmp_path / "backups"
    assert newest_good(backups, Expected(volume_id=identity.volume_id, max_age_seconds=60))
    assert judge_all(backups, Expected(volume_id="another"))[0].reason == "OtherVolume"
    assert judge_all(backups, Expected(database_id="another"))[0].reason == "OtherVolume"
    assert judge_all(backups, Expected(max_age_seconds=0))[0].reason == "Stale"
