"""How a maintenance task reports: a file on the volume, which is the truth, and a short copy for Kubernetes."""

import json
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

TERMINATION_LOG = Path("/dev/termination-log")
TERMINATION_BYTES = 4096  # what the kubelet reads
ATTEMPT_ID = re.compile(r"^[A-Za-z0-9._-]{1,128}$")


@dataclass(frozen=True)
class TaskResult:
    """What a task found or did; `refused` says why it did nothing."""

    task: str
    attempt: str
    ok: bool
    measured: dict[str, object] = field(default_factory=dict[str, object])
    refused: str | None = None

    def to_json(self) -> str:
        content = {key: value for key, value in asdict(self).items() if value is not None}
        return json.dumps(content, ensure_ascii=False)


def result_path(data_dir: Path, task: str, attempt: str) -> Path:
    """Where the result lies; the attempt's id is checked, for it becomes part of a path."""
    if not ATTEMPT_ID.match(attempt) or attempt.startswith("."):
        raise ValueError("--attempt-id must be 1 to 128 of letters, digits, '.', '_' and '-'")
    return data_dir / "maintenance" / f"{task}-{attempt}.json"


def read_result(path: Path) -> TaskResult | None:
    """The result of an attempt that has ended, or None."""
    try:
        return TaskResult(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def write_result(path: Path, result: TaskResult, termination_log: Path = TERMINATION_LOG) -> None:
    """Durable before it returns; the copy is left out where there is no such file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".tmp")
    with scratch.open("w", encoding="utf-8") as file:
        file.write(result.to_json() + "\n")
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    if termination_log.exists():
        termination_log.write_bytes(result.to_json().encode()[:TERMINATION_BYTES])
