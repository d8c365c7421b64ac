"""The stated loss holds the true one, over random histories and every kind of damage, with and without shipping."""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from backup_world import random_text
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.head_mark import mark_path
from restore_world import NAME, RestoreWorld, checkpoint, contents, flip_pages, pages_of, run_restore, schema_names

HISTORIES = int(os.environ.get("LOSS_HISTORIES", "40"))
OPERATIONS = 40


def live(world: RestoreWorld, chosen: random.Random, *, is_shipping: bool) -> None:
    """A history; the first backup comes early, or there would be nothing to restore."""
    world.fill(5)
    world.backup()
    for number in range(OPERATIONS):
        match chosen.choices(["put", "delete", "drop", "ship", "checkpoint"], [20, 4, 0.5, 6, 2])[0]:
            case "put":
                project = chosen.choice(["p", "q"])
                world.put(f"d{chosen.randrange(12)}", f"{number} {random_text(chosen, 40)}", project)
            case "delete" if world.acknowledged:
                project, key = chosen.choice(sorted(world.acknowledged))
                world.delete(key, project)
            case "drop" if any(project == "q" for project, _ in world.acknowledged):
                world.drop("q")
            case "ship" if is_shipping:
                world.ship()
            case "checkpoint":
                checkpoint(world.data)
            case _:
                pass


def torn_pages(data: Path, chosen: random.Random) -> None:
    """Some pages of some tables and indexes, in the file or beside a log that still has others."""
    if chosen.random() < 0.7:
        checkpoint(data)
    _, name = chosen.choice(schema_names(data / NAME))
    pages = pages_of(data / NAME, name)
    here = [page for page in pages if page * 4096 <= (data / NAME).stat().st_size]
    flip_pages(data / NAME, chosen.sample(here, min(len(here), chosen.randint(1, 4))), seed=chosen.randrange(1000))


def cut_file(data: Path, chosen: random.Random) -> None:
    checkpoint(data)
    os.truncate(data / NAME, int((data / NAME).stat().st_size * chosen.random()))


def cut_log(data: Path, chosen: random.Random) -> None:
    log = data / f"{NAME}-wal"
    os.truncate(log, int(log.stat().st_size * chosen.random()))


def torn_log(data: Path, chosen: random.Random) -> None:
    log = data / f"{NAME}-wal"
    if log.stat().st_size > 5000:
        content = bytearray(log.read_bytes())
        content[chosen.randrange(40, len(content))] ^= 0xFF
        log.write_bytes(content)


def without_log(data: Path, chosen: random.Random) -> None:
    (data / f"{NAME}-wal").unlink()


def without_file(data: Path, chosen: random.Random) -> None:
    (data / NAME).unlink()
    if chosen.random() < 0.5:
        (data / f"{NAME}-wal").unlink()


def stopped(data: Path, chosen: random.Random) -> None:
    """An orderly stop first: the log is gone because everything is in the file."""
    Connection(data / NAME).close()
    if chosen.random() < 0.5:
        torn_pages(data, chosen)
    else:
        (data / NAME).write_bytes(b"\0" * 100 + (data / NAME).read_bytes()[100:])


DAMAGES: tuple[Callable[[Path, random.Random], None], ...] = (
    torn_pages, torn_pages, torn_pages, cut_file, cut_log, torn_log, without_log, without_file, stopped,
)  # fmt: skip


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_bounds_hold_the_truth(tmp_path: Path, seed: int) -> None:
    chosen = random.Random(seed)
    world = RestoreWorld(tmp_path)
    live(world, chosen, is_shipping=seed % 3 != 0)
    data = world.crash()
    world.close()
    chosen.choice(DAMAGES)(data, chosen)
    has_mark = seed % 4 != 0
    if not has_mark:  # as on a volume that no release with a mark has had
        mark_path(data / NAME).unlink()
    result = run_restore(data, world.backups, backup="latest", approve_loss=True)
    assert result.ok, result
    restored = contents(data / NAME)
    lost = {key for key, text in world.acknowledged.items() if restored.get(key) != text}
    loss = cast("dict[str, object]", result.measured["loss"])
    lower, upper = cast("int", loss["documents_lower"]), cast("int | None", loss["documents_upper"])
    assert lower <= len(lost), (loss, lost)
    assert upper is not None or not has_mark, loss
    assert upper is None or len(lost) <= upper, (loss, lost)
    if upper == 0:
        assert restored == world.acknowledged
    again = cast("list[dict[str, str]]", loss["ingest_again"])
    named = {(one["project"], one["id"]) for one in again}
    assert named <= lost or upper != lower
