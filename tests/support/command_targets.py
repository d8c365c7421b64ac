"""What is killed at every call that changes files: whole commands, from their announcement to the result on the volume.

Each returns what the command prints, and `exit`.
"""

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import typer

from knowledgebeast_service.cli import maintain_backups, maintain_disk, maintain_restore
from knowledgebeast_service.search.analyser import analyse

NAME = "knowledgebeast.db"
# Nothing is served beside it, and a test waits for it.
maintain_backups.NICENESS = 0  # pyright: ignore[reportPrivateImportUsage]
analyse("words")  # what the first use loads is loaded before the fork, not by every child


def run_restore(data: str, backups: str, attempt: str) -> dict[str, object]:
    return _said(lambda: maintain_restore.restore(attempt, Path(data), Path(backups), lock_wait_seconds=0))


def run_reindex(data: str, attempt: str) -> dict[str, object]:
    return _said(lambda: maintain_restore.reindex(attempt, Path(data)))


def run_put_back(data: str, backups: str, of: str, attempt: str) -> dict[str, object]:
    return _said(lambda: maintain_restore.put_back(attempt, of, Path(data), Path(backups), lock_wait_seconds=0))


def run_salvage(database: str, out: str) -> dict[str, object]:
    return _said(lambda: maintain_restore.salvage(Path(database), Path(out)))


def run_merge(backup: str, recovery: str, output: str) -> dict[str, object]:
    return _said(lambda: maintain_restore.merge(Path(backup), Path(recovery), Path(output)))


def run_backup(data: str, backups: str, attempt: str) -> dict[str, object]:
    return _said(lambda: maintain_backups.backup(attempt, Path(data), Path(backups)))


def run_drill(data: str, backups: str, scratch: str, attempt: str) -> dict[str, object]:
    return _said(lambda: maintain_backups.drill(attempt, Path(data), Path(backups), Path(scratch)))


def run_clean(data: str, backups: str, attempt: str) -> dict[str, object]:
    return _said(lambda: maintain_disk.clean(attempt, Path(data), Path(backups), keep_days=1, keep_daily_days=1))


def _said(command: Callable[[], None]) -> dict[str, object]:
    """The last line of standard output, which is JSON, with the exit status; only the status where there is none."""
    output = io.StringIO()
    status = 0
    with contextlib.redirect_stdout(output):
        try:
            command()
        except typer.Exit as end:
            status = end.exit_code
    lines = output.getvalue().splitlines()
    return {**(json.loads(lines[-1]) if lines else {}), "exit": status}
