"""Replicas are killed under writes and the database cannot be read any more: the bounds hold what was acknowledged."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest

import loss_world
from restore_world import NAME, RestoreWorld, contents, run_restore

KILLS = int(os.environ.get("LOSS_KILLS", "10"))
REPLICAS = 2
MOST_SECONDS_LOST = 60.0  # with shipping; without it everything since the backup may be lost


def without_schema(data: Path) -> None:
    """What says where the tables are is gone, so that nothing of it can be read; the size and the header are well."""
    with (data / NAME).open("r+b") as file:
        file.seek(100)
        file.write(random.Random(1).randbytes(3 * 4096))


def without_file(data: Path) -> None:
    (data / NAME).unlink()


def without_log(data: Path) -> None:
    without_schema(data)
    for path in data.glob(f"{NAME}-*"):
        path.unlink()


DAMAGES: tuple[Callable[[Path], None], ...] = (without_schema, without_file, without_log)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", range(KILLS))
def test_the_bounds_hold_what_was_acknowledged(tmp_path: Path, seed: int) -> None:
    chosen = random.Random(seed)
    world = RestoreWorld(tmp_path)
    world.fill(5)
    world.backup(datetime.now(UTC) - timedelta(hours=2))
    world.close()
    seconds = chosen.choice([0.0, 0.2, 1.0])
    acknowledged = killed_under_writes(world, chosen, seconds)
    chosen.choice(DAMAGES)(world.data)

    result = run_restore(world.data, world.backups, approve_loss=True)

    assert result.ok, result
    restored = {key for _, key in contents(world.data / NAME)}
    lost = acknowledged.keys() - restored
    loss = cast("dict[str, object]", result.measured["loss"])
    lower, upper = cast("int", loss["documents_lower"]), cast("int | None", loss["documents_upper"])
    assert upper is not None
    assert lower <= len(lost) <= upper, (loss, len(acknowledged))
    # Each change is a new document, so only what was on its way when its process was killed makes a difference.
    assert upper <= len(lost) + REPLICAS, (loss, len(acknowledged))
    if seconds:
        assert cast("float", loss["rpo_seconds"]) <= MOST_SECONDS_LOST, loss
        assert all(max(acknowledged.values()) - acknowledged[key] <= MOST_SECONDS_LOST for key in lost)


def killed_under_writes(world: RestoreWorld, chosen: random.Random, seconds: float) -> dict[str, float]:
    """The ids that were acknowledged until everybody was killed, one after the other; with the time."""
    answers = [world.folder / f"acknowledged-{name}" for name in "ab"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen(
            [sys.executable, loss_world.__file__, world.data / NAME, world.backups, path.name[-1], path, str(seconds)],
            env=environment,
        )
        for path in answers
    ]
    try:
        deadline = time.monotonic() + 60
        while not (all(path.exists() and path.stat().st_size > 50 for path in answers) and is_shipped(world, seconds)):
            assert time.monotonic() < deadline, "nobody writes, or nobody ships"
            time.sleep(0.01)
        for process in processes:
            time.sleep(chosen.uniform(0, 0.5))  # the instant is to be any
            process.kill()
    finally:
        for process in processes:
            process.kill()
            process.wait()
    lines = [line.split() for path in answers for line in path.read_text(encoding="utf-8").splitlines()]
    return {key: float(at) for key, at in lines}


def is_shipped(world: RestoreWorld, seconds: float) -> bool:
    """Whether a document of the writers was shipped, if any is to be: the base, which the backup holds, goes first."""
    open_segments = (world.backups / "changes").rglob("*-open.jsonl")
    return not seconds or any(first in path.read_bytes() for path in open_segments for first in (b'"a-1"', b'"b-1"'))
