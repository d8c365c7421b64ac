import asyncio
import errno
import os
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from backup_world import fill, prepared, put, random_text
from knowledgebeast_service.errors import ShippingError
from knowledgebeast_service.ingest.housekeeping import keep_house
from knowledgebeast_service.shipping import shipper as shipper_module
from knowledgebeast_service.shipping.content import next_changes
from knowledgebeast_service.shipping.segments import changes_folder, read_changes, segments, survey
from knowledgebeast_service.shipping.shipper import Shipper
from knowledgebeast_service.shipping.writer import SegmentWriter, read_position
from knowledgebeast_service.storage import outbox
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.documents import delete_document, delete_project, upsert_documents
from shipping_world import replayed, stored


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    (tmp_path / "backups").mkdir()
    return tmp_path / "backups"


def identity(database: Database) -> str:
    return database.read_now(outbox.database_id)


def folder_of(database: Database, backups: Path) -> Path:
    return changes_folder(backups, identity(database))


def ship(database: Database, writer: SegmentWriter) -> None:
    while changes := database.read_now(lambda connection: next_changes(connection, writer.position)):
        writer.append(changes)


def acquired(database: Database, backups: Path) -> SegmentWriter:
    writer = SegmentWriter(folder_of(database, backups))
    assert writer.acquire(database.read_now(outbox.first_kept))
    return writer


@asynccontextmanager
async def shipping(database: Database, backups: Path, seconds: float = 0.02) -> AsyncGenerator[Shipper]:
    shipper = Shipper(database, backups, seconds)
    running = asyncio.create_task(shipper.run())
    try:
        yield shipper
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        shipper.close()


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    for _ in range(int(seconds / 0.01)):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it did not happen in time")


def test_what_is_shipped_comes_to_what_is_stored(database: Database, backups: Path) -> None:
    fill(database, documents=5)
    fill(database, "q", documents=3)
    put(database, "p", [prepared("d1", "new", "text")])
    database.write_now(lambda connection: delete_document(connection, "p", "d2"))
    database.write_now(lambda connection: delete_project(connection, "q"))
    put(database, "q", [prepared("d1", "of a new project")])
    writer = acquired(database, backups)
    ship(database, writer)
    writer.release()
    assert replayed(read_changes(backups, 0, identity(database))) == database.read_now(stored)
    assert survey(backups, 0, identity(database)).is_complete


def test_content_is_never_older_than_the_change_that_names_it(database: Database, backups: Path) -> None:
    put(database, "p", [prepared("a", "first")])
    put(database, "p", [prepared("a", "second"), prepared("b", "gone soon")])
    database.write_now(lambda connection: delete_document(connection, "p", "b"))
    writer = acquired(database, backups)
    ship(database, writer)
    found = list(read_changes(backups, 0, identity(database)))
    writer.release()
    texts = [(one.op, one.document, one.content and "".join(one.content.chunks)) for one in found]
    assert texts == [
        ("create", None, None),
        ("put", "a", "second"),
        ("put", "a", "second"),
        ("put", "b", None),
        ("delete", "b", None),
    ]
    assert found[0].issued["chunks"] == 3


def test_a_new_shipper_cuts_a_torn_tail_off_and_goes_on(database: Database, backups: Path) -> None:
    fill(database, documents=3)
    writer = acquired(database, backups)
    ship(database, writer)
    writer.release()
    (segment,) = segments(folder_of(database, backups))
    with segment.path.open("ab") as file:
        file.write(b'0badc0de {"seq": 5, "at"')
    fill(database, "q", documents=2)
    again = acquired(database, backups)
    assert again.position == 4
    ship(database, again)
    again.release()
    found = survey(backups, 0, identity(database))
    assert (found.last, found.missing, found.problems) == (7, (), ())


@pytest.mark.parametrize("can_ship_again", [True, False])
def test_good_lines_behind_a_damaged_one_are_only_given_up_if_they_can_be_shipped_again(
    can_ship_again: bool, database: Database, backups: Path
) -> None:
    fill(database, documents=5)
    writer = acquired(database, backups)
    ship(database, writer)
    writer.release()
    (segment,) = segments(folder_of(database, backups))
    lines = segment.path.read_bytes().splitlines(keepends=True)
    segment.path.write_bytes(b"".join([*lines[:2], b"x" * 10 + lines[2][10:], *lines[3:]]))
    if not can_ship_again:
        database.write_now(lambda connection: outbox.discard(connection, 6))
    again = acquired(database, backups)
    ship(database, again)
    again.release()
    found = survey(backups, 0, identity(database))
    assert found.last == 6
    assert found.missing == (() if can_ship_again else ((3, 3),))


def test_a_full_segment_is_closed_and_the_next_one_begun(database: Database, backups: Path) -> None:
    fill(database, documents=4)
    writer = SegmentWriter(folder_of(database, backups), segment_bytes=1)
    assert writer.acquire(1)
    ship(database, writer)
    fill(database, "q", documents=2)
    ship(database, writer)
    writer.release()
    names = [one.path.name for one in segments(folder_of(database, backups))]
    assert names == ["000000000001-000000000005.jsonl.gz", "000000000006-000000000008.jsonl.gz"]
    assert replayed(read_changes(backups, 0, identity(database))) == database.read_now(stored)


def test_a_refused_sync_counts_nothing_and_the_role_is_taken_anew(
    database: Database, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(database, documents=2)
    writer = acquired(database, backups)
    ship(database, writer)
    fill(database, "q", documents=2)

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", full)
        with pytest.raises(OSError, match="No space left"):
            ship(database, writer)
    assert (writer.is_holder, read_position(folder_of(database, backups))) == (False, 3)
    assert writer.acquire(database.read_now(outbox.first_kept))
    ship(database, writer)
    writer.release()
    assert replayed(read_changes(backups, 0, identity(database))) == database.read_now(stored)


async def test_changes_are_shipped_within_the_time_set(database: Database, backups: Path) -> None:
    async with shipping(database, backups, 0.4) as shipper:
        await until(lambda: shipper.is_shipper)
        lags: list[float] = []
        for number in range(20):
            put(database, "p", [prepared(f"d{number}", "text")])
            started = asyncio.get_running_loop().time()
            newest = database.read_now(outbox.head)
            await until(lambda newest=newest: database.read_now(shipper.state).shipped_seq >= newest)
            lags.append(asyncio.get_running_loop().time() - started)
        assert sorted(lags)[len(lags) // 2] < 0.4
        assert database.read_now(shipper.state).lag_seconds == 0


async def test_another_replica_takes_over_and_both_know_how_far_it_is(database: Database, backups: Path) -> None:
    fill(database, documents=2)
    async with shipping(database, backups) as standby:
        async with shipping(database, backups) as second:
            await until(lambda: standby.is_shipper or second.is_shipper)
            await until(lambda: database.read_now(standby.state).shipped_seq == 3)
            await until(lambda: database.read_now(second.state).shipped_seq == 3)
            assert standby.is_shipper != second.is_shipper
        await until(lambda: standby.is_shipper)
        fill(database, "q", documents=2)
        await until(lambda: database.read_now(standby.state).shipped_seq == 6)
    assert replayed(read_changes(backups, 0, identity(database))) == database.read_now(stored)


async def test_without_the_volume_documents_are_taken_in_and_the_lag_says_so(
    database: Database, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = backups / "mounted later"
    monkeypatch.setattr(shipper_module, "OVERDUE_SECONDS", 0.2)
    async with shipping(database, volume) as shipper:
        await database.write(lambda connection: upsert_documents(connection, "p", [prepared("a", "text")]))
        await until(lambda: database.read_now(shipper.state).error)
        state = database.read_now(shipper.state)
        assert not state.is_up
        assert "mount the volume" in (state.error or "")
        await until(lambda: database.read_now(shipper.state).lag_seconds > 0.2)
        await asyncio.to_thread(volume.mkdir)
        await until(lambda: database.read_now(shipper.state).is_up)
    assert replayed(read_changes(volume, 0, identity(database))) == database.read_now(stored)


async def test_shipped_rows_leave_the_outbox(
    database: Database, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipper_module, "DISCARD_SECONDS", 0)
    fill(database, documents=20)
    async with shipping(database, backups):
        await until(lambda: database.read_now(outbox.first_kept) == 22)
    assert database.read_now(outbox.head) == 21


async def test_without_shipping_the_outbox_does_not_grow(database: Database) -> None:
    fill(database, documents=20)
    house = asyncio.create_task(keep_house(database))
    await until(lambda: database.read_now(outbox.first_kept) == 22)
    house.cancel()


def test_while_shipping_only_what_is_too_much_is_given_up(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(database, documents=20)
    assert database.read_now(lambda connection: outbox.superfluous(connection, is_shipping=True)) == 0
    monkeypatch.setattr(outbox, "KEPT_ROWS", 5)
    assert database.read_now(lambda connection: outbox.superfluous(connection, is_shipping=True)) == 16


async def test_a_database_that_went_back_in_time_is_not_shipped(database: Database, backups: Path) -> None:
    fill(database, documents=5)
    async with shipping(database, backups) as shipper:
        await until(lambda: database.read_now(shipper.state).shipped_seq == 6)
        database.write_now(
            lambda connection: connection.execute("UPDATE sqlite_sequence SET seq = 3 WHERE name = 'outbox'")
        )
        await until(lambda: "went back in time" in (database.read_now(shipper.state).error or ""))


async def test_in_sync_mode_nothing_is_acknowledged_before_it_is_shipped(database: Database, backups: Path) -> None:
    async with shipping(database, backups) as shipper:

        async def confirm(number: int) -> None:
            await shipper.wait_for(number, 5)

        database.confirm = confirm
        for number in range(10):
            document = prepared(f"d{number}", "text")
            await database.write(lambda connection, one=document: upsert_documents(connection, "p", [one]))
            assert survey(backups, 0, identity(database)).last == database.read_now(outbox.head)
    await database.write(lambda connection: connection.execute("DELETE FROM tasks"))  # no change: nothing to wait for

    async def not_for_long(number: int) -> None:
        await shipper.wait_for(number, 0.05)

    database.confirm = not_for_long
    with pytest.raises(ShippingError, match="not yet on the backup volume"):
        await database.write(lambda connection: upsert_documents(connection, "p", [prepared("late", "text")]))


def test_long_documents_are_shipped_in_several_batches(database: Database) -> None:
    text = random_text(random.Random(1), 400_000)
    put(database, "p", [prepared(name, text) for name in "abc"])
    first = database.read_now(lambda connection: next_changes(connection, 0))
    assert [one.document for one in first] == [None, "a", "b", "c"][: len(first)]
    assert len(first) < 4
