"""How a maintenance task reports: a file on the volume, which is the truth, and a short copy for Kubernetes."""

import json
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import cast

from knowledgebeast_service.storage.durable import make_folder, write_file

TERMINATION_LOG = Path("/dev/termination-log")
TERMINATION_BYTES = 4096  # what the kubelet reads
ATTEMPT_ID_LENGTH = 128
ATTEMPT_ID = re.compile(rf"^[A-Za-z0-9._-]{{1,{ATTEMPT_ID_LENGTH}}}$")


@dataclass(frozen=True)
class TaskResult:
    """What a task found or did; `refused` says why it did nothing, and `reason` the same in a word for programs."""

    task: str
    attempt: str
    ok: bool
    measured: dict[str, object] = field(default_factory=dict[str, object])
    refused: str | None = None
    reason: str | None = None

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
    """Durable before it returns; the copy is left out where there is no such file.

    Raises:
        OSError: the volume takes no file. The copy is written all the same: it may be about just that.
    """
    try:
        make_folder(path.parent)
        write_file(path, f"{result.to_json()}\n".encode())
    finally:
        write_last_word(result, termination_log)


def write_last_word(result: TaskResult, termination_log: Path = TERMINATION_LOG) -> None:
    """The copy for Kubernetes alone."""
    if termination_log.exists():
        termination_log.write_bytes(shortened(result).to_json().encode()[:TERMINATION_BYTES])


def shortened(result: TaskResult, limit: int = TERMINATION_BYTES) -> TaskResult:
    """The result with its longest lists cut until it fits: the first entries, then how many there are beside."""
    measured = dict(result.measured)
    lists = {key: cast("list[object]", value) for key, value in measured.items() if isinstance(value, list)}
    lengths = {key: len(value) for key, value in lists.items()}
    short = result
    while len(short.to_json().encode()) > limit and any(lists.values()):
        longest = max(lists, key=lambda key: len(json.dumps(lists[key])))
        lists[longest] = lists[longest][: len(lists[longest]) // 2]
        measured |= {longest: lists[longest], f"{longest}_total": lengths[longest]}
        short = replace(result, measured=measured)
    return short
