"""What is killed at every call that changes files: a whole clean with its result, as the command makes it."""

from pathlib import Path

from knowledgebeast_service.maintenance.backups.retention import Retention
from knowledgebeast_service.maintenance.cleaning.clean import TASK, Wanted, clean
from knowledgebeast_service.maintenance.result import result_path, write_result
from knowledgebeast_service.maintenance.running import announced


def make_room(data_dir: str, backup_dir: str, attempt: str) -> dict[str, object]:
    folder = Path(data_dir)
    with announced(folder, TASK, attempt):
        result = clean(Wanted(folder, Path(backup_dir), retention=Retention(1, 1)), attempt)
    write_result(result_path(folder, TASK, attempt), result, Path("/none"))
    return {"ok": result.ok, **result.measured}
