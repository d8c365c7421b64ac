"""The file that shortens a start: it is used when it is whole and belongs to the database, and is otherwise ignored."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowledgebeast_service.search import index_file
from knowledgebeast_service.search.frozen import (
    Frozen,
    FrozenProject,
    UnusableFileError,
    read_frozen,
    read_seq,
    write_frozen,
)
from knowledgebeast_service.search.keyword_index import KeywordIndex
from knowledgebeast_service.search.replica import KeywordReplica
from knowledgebeast_service.storage import follow
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.documents import delete_document, delete_project, upsert_documents
from knowledgebeast_service.storage.records import ChunkPostings, PreparedChunk, PreparedDocument

WORDS = [f"w{number}" for number in range(40)]


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_file, "FEWEST_CHUNKS", 1)
    monkeypatch.setattr(index_file, "FEWEST_CHANGES", 1)
    monkeypatch.setattr(index_file, "SECONDS_BETWEEN", 0.0)


@pytest.fixture
def rebuilds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often all postings were read."""
    counted: list[int] = []
    original = follow.read_everything

    def read_everything(*arguments: object) -> object:
        counted.append(1)
        return original(*arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr("knowledgebeast_service.search.replica.read_everything", read_everything)
    return counted


def ingest(database: Database, *numbers: int, project: str = "p", words: int = 3) -> None:
    documents = [
        PreparedDocument(
            f"d{number}", "", "{}", (PreparedChunk("", {WORDS[(number + k) % 40]: k + 1 for k in range(words)}),)
        )
        for number in numbers
    ]
    database.write_now(lambda connection: upsert_documents(connection, project, documents))


async def run_once(database: Database) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """A life of a replica: load, follow, keep. What it finds for each word in each project."""
    replica = KeywordReplica(database)
    await replica.catch_up()
    found = {
        name: {
            word: [(hit.chunk_id, hit.score) for hit in view.index.search([replica.vocabulary[word]], 1000)]
            for word in WORDS
            if word in replica.vocabulary
        }
        for name, view in replica.snapshot.by_name.items()
    }
    replica.close()
    return found


def path_of(database: Database) -> Path:
    return database.path.parent / "keyword-index" / "frozen.bin"


async def without_file(database: Database) -> dict[str, dict[str, list[tuple[int, float]]]]:
    moved = path_of(database).with_name("elsewhere")
    if path_of(database).exists():
        path_of(database).rename(moved)
    found = await run_once(database)
    path_of(database).unlink(missing_ok=True)
    if moved.exists():
        moved.rename(path_of(database))
    return found


async def test_a_start_from_the_file_gives_what_a_start_without_it_gives(
    database: Database, rebuilds: list[int]
) -> None:
    ingest(database, *range(120))
    ingest(database, *range(30), project="q")
    ingest(database, 1, project="gone")
    await run_once(database)
    assert read_seq(path_of(database)) > 0
    ingest(database, *range(100, 140), words=4)
    database.write_now(lambda connection: delete_document(connection, "p", "d7"))
    database.write_now(lambda connection: delete_project(connection, "gone"))
    ingest(database, 2, project="new")
    rebuilds.clear()
    found = await run_once(database)
    assert rebuilds == []
    assert set(found) == {"p", "q", "new"}
    assert found == await without_file(database)
    assert rebuilds == [1]


async def test_without_enough_chunks_there_is_no_file(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_file, "FEWEST_CHUNKS", 100)
    ingest(database, *range(50))
    await run_once(database)
    assert not path_of(database).exists()


def opened(folder: Path) -> Database:
    database = Database(folder / "knowledgebeast.db")
    database.open(volume_lock_wait_seconds=0)
    return database


def back_up(database: Database, folder: Path) -> None:
    database.close()
    shutil.copy(database.path, folder / "backup.db")


def restore(database: Database, folder: Path) -> None:
    database.close()
    for name in ("-wal", "-shm"):
        Path(f"{database.path}{name}").unlink(missing_ok=True)
    shutil.copy(folder / "backup.db", database.path)


async def test_a_restored_database_refuses_the_file_of_the_history_that_was_lost(
    tmp_path: Path, rebuilds: list[int]
) -> None:
    """The same sequence numbers, chunk ids and project: only the texts differ."""
    database = opened(tmp_path)
    ingest(database, *range(60))
    back_up(database, tmp_path)
    database = opened(tmp_path)
    ingest(database, *range(60, 120), words=3)
    await run_once(database)
    kept_seq = read_seq(path_of(database))
    restore(database, tmp_path)
    database = opened(tmp_path)
    ingest(database, *range(60, 120), words=5)
    assert database.read_now(lambda connection: connection.number("SELECT max(seq) FROM changes")) == kept_seq
    rebuilds.clear()
    found = await run_once(database)
    assert rebuilds == [1]
    assert found == await without_file(database)
    database.close()


async def test_a_file_newer_than_the_database_is_refused(tmp_path: Path, rebuilds: list[int]) -> None:
    database = opened(tmp_path)
    ingest(database, *range(60))
    back_up(database, tmp_path)
    database = opened(tmp_path)
    ingest(database, *range(60, 120))
    await run_once(database)
    restore(database, tmp_path)
    database = opened(tmp_path)
    rebuilds.clear()
    found = await run_once(database)
    assert rebuilds == [1]
    assert sum(len(hits) for hits in found["p"].values()) == 60 * 3
    database.close()


async def test_a_database_restored_from_after_the_file_uses_it(tmp_path: Path, rebuilds: list[int]) -> None:
    database = opened(tmp_path)
    ingest(database, *range(60))
    await run_once(database)
    back_up(database, tmp_path)
    database = opened(tmp_path)
    ingest(database, 1, 2)
    restore(database, tmp_path)
    database = opened(tmp_path)
    rebuilds.clear()
    found = await run_once(database)
    assert rebuilds == []
    assert found == await without_file(database)
    database.close()


async def test_a_file_that_does_not_hold_what_the_database_holds_is_thrown_away(
    database: Database, rebuilds: list[int]
) -> None:
    """Whatever the reason: here somebody deletes behind the back of the change log."""
    ingest(database, *range(60))
    await run_once(database)
    database.write_now(lambda connection: connection.execute("DELETE FROM postings WHERE chunk_id = 5"))
    rebuilds.clear()
    found = await run_once(database)
    assert rebuilds == [1]
    assert all(chunk_id != 5 for hits in found["p"].values() for chunk_id, _ in hits)


async def test_a_full_disk_means_no_file_and_nothing_else(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_arguments: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(index_file, "write_frozen", no_space)
    ingest(database, *range(60))
    found = await run_once(database)
    assert len(found["p"]["w5"]) > 0
    assert not path_of(database).exists()


async def test_a_disk_that_is_nearly_full_is_left_alone(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_file, "SPACE_FACTOR", 10**12)
    ingest(database, *range(60))
    await run_once(database)
    assert not path_of(database).exists()


async def test_what_a_killed_writer_left_is_removed(database: Database) -> None:
    ingest(database, *range(60))
    await run_once(database)
    left = path_of(database).with_name("frozen.bin.123.partial")
    left.touch()
    ingest(database, *range(60, 120))
    await run_once(database)
    assert sorted(file.name for file in left.parent.iterdir()) == ["frozen.bin", "lock"]


def index_of(chunks: int) -> KeywordIndex:
    one = np.ones(3, dtype=np.int32)
    made = [
        ChunkPostings(number, number, 3, np.array([number % 5, 10, 20 + number % 3], dtype=np.int32), one)
        for number in range(1, chunks + 1)
    ]
    return KeywordIndex().apply(made[: chunks // 2]).apply(made[chunks // 2 :], [1])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("frozen") / "frozen.bin"
    projects = (FrozenProject(1, "a", index_of(60)), FrozenProject(2, "b", KeywordIndex()))
    write_frozen(path, Frozen(7, "tag", 1, projects))
    return path


def test_what_is_read_is_what_was_written(written: Path) -> None:
    frozen = read_frozen(written, 1)
    assert (frozen.seq, frozen.tag, [project.uid for project in frozen.projects]) == (7, "tag", ["a", "b"])
    assert frozen.projects[0].index.search([10, 3], 100) == index_of(60).search([10, 3], 100)
    later = frozen.projects[0].index.apply([], [9])
    assert later.search([10, 3], 100) == index_of(60).apply([], [9]).search([10, 3], 100)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_refused_wherever_the_damage_is(
    data: st.DataObject, written: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(written.read_bytes())
    damages: dict[str, Callable[[int], object]] = {
        "a flipped bit": lambda at: content.__setitem__(at, content[at] ^ (1 << at % 8)),
        "cut short": lambda at: content.__delitem__(slice(at, None)),
        "something added": lambda at: content.insert(at, 0),
        "a hole of zeros": lambda at: content.__setitem__(slice(at, at + 40), bytes(len(content[at : at + 40]))),
    }
    damage = data.draw(st.sampled_from(sorted(damages)))
    damages[damage](data.draw(st.integers(min_value=0, max_value=len(content) - 1)))
    if bytes(content) == written.read_bytes():
        return  # there were zeros already
    path = tmp_path_factory.mktemp("damaged") / "frozen.bin"
    path.write_bytes(content)
    with_padding = _is_padding_only(bytes(content), written.read_bytes())
    if with_padding:
        assert read_frozen(path, 1).seq == 7
        return
    with pytest.raises(UnusableFileError):
        read_frozen(path, 1)


def _is_padding_only(content: bytes, original: bytes) -> bool:
    """Only the bytes between header and arrays differ; nobody reads them."""
    length = int.from_bytes(original[8:16], "little")
    begin, end = 48 + length, 48 + length + -(48 + length) % 64
    same = content[:begin] == original[:begin] and content[end:] == original[end:]
    return len(content) == len(original) and same


@pytest.mark.parametrize("content", [b"", b"KBINDEX1", b"{}", b"KBINDEX1" + bytes(40), json.dumps({}).encode() * 50])
def test_another_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "frozen.bin"
    path.write_bytes(content)
    with pytest.raises(UnusableFileError):
        read_frozen(path, 1)
    assert read_seq(path) == 0


def test_a_file_of_another_analyser_is_refused(written: Path) -> None:
    with pytest.raises(UnusableFileError, match="analyser 1, not 2"):
        read_frozen(written, 2)
