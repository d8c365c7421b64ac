"""What is killed at every call that changes files: a whole backup with its result, as the command makes it."""

from pathlib import Path

from knowledgebeast_service.maintenance.backups.create import TASK, backup
from knowledgebeast_service.maintenance.backups.retention import Retention
from knowledgebeast_service.maintenance.result import result_path, write_result


def make_backup(data_dir: str, backup_dir: str, attempt: str) -> dict[str, object]:
    result = backup(Path(data_dir) / "knowledgebeast.db", Path(backup_dir), attempt, Retention())
    write_result(result_path(Path(data_dir), TASK, attempt), result, Path("/none"))
    return {"ok": result.ok, "reason": result.reason, "refused": result.refused, **result.measured}
