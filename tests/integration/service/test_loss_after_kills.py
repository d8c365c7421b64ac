"""Replicas are killed under writes and the database cannot be read any more: the bounds hold what was acknowledged."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

import loss_world
from restore_world import NAME, RestoreWorld, contents, run_restore

KILLS = int(os.environ.get("LOSS_KILLS", "10"))
REPLICAS = 2


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
    world.backup()
    world.close()
    acknowledged = killed_under_writes(world, chosen, seconds=chosen.choice([0.0, 0.2, 1.0]))
    chosen.choice(DAMAGES)(world.data)

    result = run_restore(world.data, world.backups)

    assert result.ok, result
    restored = {key for _, key in contents(world.data / NAME)}
    lost = acknowledged - restored
    loss = cast("dict[str, object]", result.measured["loss"])
    lower, upper = cast("int", loss["documents_lower"]), cast("int | None", loss["documents_upper"])
    assert upper is not None
    assert lower <= len(lost) <= upper, (loss, len(acknowledged))
    # Each change is a new document, so only what was on its way when its process was killed makes a difference.
    assert upper <= len(lost) + REPLICAS, (loss, len(acknowledged))


def killed_under_writes(world: RestoreWorld, chosen: random.Random, seconds: float) -> set[str]:
    """The ids that were acknowledged until everybody was killed, one after the other."""
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
        while not all(path.exists() and path.stat().st_size > 50 for path in answers):
            assert time.monotonic() < deadline, "nobody writes"
            time.sleep(0.01)
        for process in processes:
            time.sleep(chosen.uniform(0, 0.5))  # the instant is to be any
            process.kill()
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return {key for path in answers for key in path.read_text(encoding="utf-8").split()}
