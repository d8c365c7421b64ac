"""Vectors of merged documents: of the damaged file where each is proved, and never half of a document's."""

from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np
import pytest

from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.records import pack_vector, vector_checksum
from restore_world import (
    MODEL,
    NAME,
    RestoreWorld,
    checkpoint,
    contents,
    document,
    embedded,
    flip_pages,
    pages_of,
    queued,
    run_restore,
    vector_of,
)

LONG = " ".join(f"word{number}" for number in range(600))  # several chunks
Row = tuple[bytes, bytes | None]  # (vector, checksum)


@pytest.fixture
def world(tmp_path: Path) -> Generator[RestoreWorld]:
    """A backup, a shipped document and one that was not shipped, all of them embedded."""
    world = RestoreWorld(tmp_path)
    world.fill(20)
    world.embed()
    world.backup()
    world.put("shipped", f"shipped {LONG}")
    world.embed()
    world.ship()
    world.put("late", LONG)
    world.embed()
    yield world
    world.close()


def torn(world: RestoreWorld, *tables: str) -> Path:
    """As a killed process leaves it, with damaged postings, and the last page of these."""
    data = world.crash()
    checkpoint(data)
    for table in ("postings", *tables):
        flip_pages(data / NAME, pages_of(data / NAME, table)[-1:])
    return data


def restored(data: Path, world: RestoreWorld, **wanted: object) -> dict[str, object]:
    result = run_restore(data, world.backups, "a1", **wanted)
    assert result.ok, result
    return dict(result.measured)


def test_what_was_embedded_is_not_embedded_again(world: RestoreWorld) -> None:
    data = torn(world)
    measured = restored(data, world)
    assert contents(data / NAME) == world.acknowledged
    assert embedded(data / NAME) == {key for _, key in world.acknowledged}
    assert queued(data / NAME, "embed") == set()
    assert queued(data / NAME, "publish") >= {"shipped", "late"}
    assert isinstance(measured["carried_vectors"], int)
    assert measured["carried_vectors"] > 2


def test_what_the_backup_had_not_embedded_yet_takes_it_from_the_damaged_file(world: RestoreWorld) -> None:
    world.put("early", "waiting when the backup was made")
    world.ship()
    world.backup()
    world.embed()
    data = torn(world)
    restored(data, world)
    assert "early" in embedded(data / NAME)


def test_a_second_restore_finds_them_again(world: RestoreWorld) -> None:
    """Under new numbers, with the checksums that came along."""
    data = torn(world)
    restored(data, world)
    flip_pages(data / NAME, pages_of(data / NAME, "postings")[-1:])
    assert run_restore(data, world.backups, "a2", backup="latest").ok
    assert "late" in embedded(data / NAME)


def a_bit(vector: bytes, checksum: bytes | None) -> Row:
    return bytes([vector[0] ^ 1]) + vector[1:], checksum


def half_of_another(vector: bytes, checksum: bytes | None) -> Row:
    return vector[:384] + pack_vector(vector_of("another text"))[384:], checksum


def all_of_another(_vector: bytes, _checksum: bytes | None) -> Row:
    packed = pack_vector(vector_of("another text"))
    return packed, vector_checksum(MODEL, "", "another text", packed)


def of_another_title(vector: bytes, _checksum: bytes | None) -> Row:
    return vector, vector_checksum(MODEL, "the title before", first_chunk(LONG), vector)


def of_another_model(vector: bytes, _checksum: bytes | None) -> Row:
    return vector, vector_checksum("another", "", first_chunk(LONG), vector)


def not_finite(vector: bytes, _checksum: bytes | None) -> Row:
    packed = np.float16("inf").tobytes() + vector[2:]
    return packed, vector_checksum(MODEL, "", first_chunk(LONG), packed)


def of_another_length(vector: bytes, _checksum: bytes | None) -> Row:
    return vector[:-2], vector_checksum(MODEL, "", first_chunk(LONG), vector[:-2])


def without_checksum(vector: bytes, _checksum: bytes | None) -> Row:
    """As an older release writes it."""
    return vector, None


DOUBTS = [
    a_bit,
    half_of_another,
    all_of_another,
    of_another_title,
    of_another_model,
    not_finite,
    of_another_length,
    without_checksum,
]


def first_chunk(text: str) -> str:

    return next(iter(document("late", text).chunks)).text


@pytest.mark.parametrize("doubt", DOUBTS)
def test_one_vector_in_doubt_leaves_the_whole_document_to_be_embedded(
    world: RestoreWorld, doubt: Callable[[bytes, bytes | None], Row]
) -> None:
    data = torn(world)
    change_first_vector(data / NAME, "late", doubt)
    restored(data, world)
    assert embedded(data / NAME) == {key for _, key in world.acknowledged} - {"late"}
    assert queued(data / NAME, "embed") == {"late"}
    assert vectors_of(data / NAME, "late") == 0


def test_vectors_on_a_torn_page_are_left_out_alone(world: RestoreWorld) -> None:
    data = torn(world, "vectors")
    restored(data, world)
    assert "shipped" in embedded(data / NAME)
    assert queued(data / NAME, "embed") == {"late"}


def test_the_rows_are_found_where_their_index_is_gone(world: RestoreWorld) -> None:
    data = torn(world, "vectors_by_chunk")
    restored(data, world)
    assert {"shipped", "late"} <= embedded(data / NAME)


def test_the_same_text_under_another_title_is_not_the_same(world: RestoreWorld) -> None:
    """Vectors are made of both; and many documents may end with the same words."""
    data = torn(world)
    connection = Connection(data / NAME)
    connection.execute("UPDATE documents SET title = 'renamed' WHERE external_id = 'shipped'")
    connection.close()
    restored(data, world)
    assert queued(data / NAME, "embed") == {"shipped"}


def test_a_file_of_an_older_release_brings_none(world: RestoreWorld) -> None:
    data = torn(world)
    connection = Connection(data / NAME)
    connection.execute("ALTER TABLE vectors DROP COLUMN checksum")
    connection.close()
    restored(data, world)
    assert queued(data / NAME, "embed") == {"shipped", "late"}


def test_another_model_since_the_backup_has_everything_embedded(world: RestoreWorld) -> None:
    world.put("newest", "of another model")
    world.embed("another")
    data = torn(world)
    restored(data, world)
    assert queued(data / NAME, "embed") == {"newest"}


def test_only_the_backup_is_only_the_backup(world: RestoreWorld) -> None:
    world.put("early", "waiting when the backup was made")
    world.backup()
    world.embed()
    data = torn(world)
    assert restored(data, world, backup="latest", only_backup=True)["carried_vectors"] == 0
    assert queued(data / NAME, "embed") == {"early"}


def change_first_vector(database: Path, key: str, change: Callable[[bytes, bytes | None], Row]) -> None:
    connection = Connection(database)
    row = connection.row(
        "SELECT v.rowid, v.vector, v.checksum FROM vectors v JOIN chunks c ON c.id = v.chunk_id "
        "JOIN documents d ON d.id = c.document_id WHERE d.external_id = ? ORDER BY c.position LIMIT 1",
        (key,),
    )
    assert row is not None
    vector, checksum = change(row[1], row[2])
    connection.execute("UPDATE vectors SET vector = ?, checksum = ? WHERE rowid = ?", (vector, checksum, row[0]))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def vectors_of(database: Path, key: str) -> int:
    connection = Connection(database, read_only=True)
    try:
        return connection.number(
            "SELECT count(*) FROM vectors v JOIN chunks c ON c.id = v.chunk_id "
            "JOIN documents d ON d.id = c.document_id WHERE d.external_id = ?",
            (key,),
        )
    finally:
        connection.close()
