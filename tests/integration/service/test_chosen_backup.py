"""`maintain restore --backup ID`: the older set that was named is taken, whatever newer ones there are.

`--only-backup`, which the operator passes for `newerChanges: Drop`, leaves everything newer out.
"""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from restore_world import NAME, RestoreWorld, contents

COMMAND = str(Path(sys.executable).parent / "knowledgebeast")


def restore(data: Path, backups: Path, *arguments: str) -> dict[str, object]:
    """What the restore has measured."""
    done = subprocess.run(
        [COMMAND, "maintain", "restore", "--attempt-id", "by-hand", "--approve-loss", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"DATA_DIR": str(data), "BACKUP_DIR": str(backups)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)["measured"]


@pytest.mark.parametrize("is_shipped", [True, False])
def test_exactly_the_chosen_set_or_with_what_is_newer(tmp_path: Path, *, is_shipped: bool) -> None:
    world = RestoreWorld(tmp_path)
    world.fill(20)
    chosen = world.backup(datetime.now(UTC) - timedelta(hours=3))
    then = dict(world.acknowledged)
    world.put("d1", "changed after the chosen backup")
    world.delete("d2")
    world.backup(datetime.now(UTC) - timedelta(hours=1))
    world.put("newer", "written after the newest backup")
    if is_shipped:
        world.ship()
    dropped, kept = world.crash("dropped"), world.crash("kept")
    now = dict(world.acknowledged)
    world.close()

    measured = restore(dropped, world.backups, "--backup", chosen.name, "--only-backup")
    assert contents(dropped / NAME) == then
    assert (measured["backup_id"], measured["merged_changes"], measured["salvaged_documents"]) == (chosen.name, 0, 0)

    measured = restore(kept, world.backups, "--backup", chosen.name)
    assert contents(kept / NAME) == now
    assert measured["backup_id"] == chosen.name
