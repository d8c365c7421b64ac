"""What the crash tests run under the shim; see `crashpoints`."""

import json
from pathlib import Path

from knowledgebeast_service.maintenance.restore.by_hand import write_salvage
from knowledgebeast_service.maintenance.restore.put_back import put_back
from knowledgebeast_service.maintenance.restore.reindex import reindex
from knowledgebeast_service.maintenance.restore.restore import Wanted, restore
from knowledgebeast_service.search.analyser import analyse

NAME = "knowledgebeast.db"
analyse("words")  # what the first use loads is loaded before the fork, not by every child


def run_restore(data: str, backups: str, attempt: str) -> dict[str, object]:
    wanted = Wanted(attempt=attempt, lock_wait_seconds=0)
    return json.loads(restore(Path(data) / NAME, Path(backups), wanted).to_json())


def run_reindex(data: str, attempt: str) -> dict[str, object]:
    return json.loads(reindex(Path(data) / NAME, attempt, lock_wait_seconds=0).to_json())


def run_put_back(data: str, of: str, attempt: str) -> dict[str, object]:
    return json.loads(put_back(Path(data) / NAME, of, attempt, lock_wait_seconds=0).to_json())


def run_salvage(data: str, out: str, after_seq: int) -> dict[str, object]:
    return write_salvage(Path(data) / NAME, Path(out), after_seq)
