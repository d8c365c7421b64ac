"""What every repair does around its own work: the fence, the marker of an earlier run, the swap, and the refusals."""

import contextlib
import shutil
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from knowledgebeast_service.errors import StartupError
from knowledgebeast_service.maintenance.restore.marker import Marker, abandon, read_record, scratch_folder, swap
from knowledgebeast_service.maintenance.result import TaskResult
from knowledgebeast_service.storage.filesystem import is_full
from knowledgebeast_service.storage.locks import VolumeLock
from knowledgebeast_service.storage.permissions import NOT_READABLE, not_permitted

LOCK_WAIT_SECONDS = 30.0
MIB = 1024 * 1024

Progress = Callable[[str], None]


class RefusedError(Exception):
    """Why a repair is not done: a word for programs, a sentence for people. Nothing was changed."""

    def __init__(self, reason: str, sentence: str, measured: dict[str, object] | None = None) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.measured = measured or {}


@dataclass
class Steps:
    """How long each step took; each is announced when it begins."""

    progress: Progress
    started_at: float = field(default_factory=time.time)
    seconds: dict[str, float] = field(default_factory=dict[str, float])

    @contextlib.contextmanager
    def step(self, name: str) -> Generator[None]:
        self.progress(name)
        started = time.monotonic()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0) + time.monotonic() - started, 3)

    def total(self) -> float:
        return round(time.time() - self.started_at, 3)


Prepare = Callable[[Steps], dict[str, object]]


def repair(
    task: str,
    attempt: str,
    database: Path,
    prepare: Prepare,
    progress: Progress,
    lock_wait_seconds: float = LOCK_WAIT_SECONDS,
) -> TaskResult:
    """Run `prepare`, which makes the new file in the scratch folder and says what was measured; then swap.

    `prepare` raises RefusedError, and leaves everything as it was, when it is not to be done. A run after a crash finds
    by the marker how far the last one came.
    """
    data_dir = database.parent
    if (sentence := not_permitted(database)) is not None:
        return TaskResult(task, attempt, ok=False, refused=sentence, reason=NOT_READABLE)
    if (record := read_record(data_dir, task, attempt)) is not None:
        return TaskResult(task, attempt, ok=True, measured=record.measured)
    lock = VolumeLock(database)
    try:
        with _fence(lock, lock_wait_seconds):
            steps = Steps(progress)
            marker = Marker.read(data_dir)
            if marker is not None and marker.step != "preparing":
                progress(f"going on with {marker.task} {marker.attempt}, which was interrupted")
                ended = swap(database, marker, attempt)
                if ended.task == task:
                    return TaskResult(task, attempt, ok=True, measured=ended.measured)
            measured = _prepared(data_dir, prepare, steps)
            marker = Marker(task, attempt, "prepared", steps.started_at, measured).write(data_dir)
            with steps.step("swap"):
                swap(database, marker, attempt)
            return TaskResult(task, attempt, ok=True, measured=measured)
    except RefusedError as refusal:
        return TaskResult(
            task, attempt, ok=False, measured=refusal.measured, refused=str(refusal), reason=refusal.reason
        )
    except (OSError, apsw.FullError, apsw.IOError, apsw.CantOpenError) as error:
        return TaskResult(task, attempt, ok=False, refused=_unwritable(data_dir, error), reason=_reason(error))


def _prepared(data_dir: Path, prepare: Prepare, steps: Steps) -> dict[str, object]:
    """Whatever goes wrong in here leaves the database and all beside it as it was."""
    try:
        return prepare(steps)
    except BaseException:
        if scratch_folder(data_dir).exists() or Marker.read(data_dir) is not None:
            with contextlib.suppress(OSError):
                abandon(data_dir)
        raise


@contextlib.contextmanager
def _fence(lock: VolumeLock, wait_seconds: float) -> Generator[None]:
    """Nobody else has the database open."""
    try:
        lock.acquire(exclusive=True, wait_seconds=wait_seconds)
    except StartupError as error:
        raise RefusedError(*_held(lock, error)) from error
    try:
        yield
    finally:
        lock.release()


def _held(lock: VolumeLock, error: StartupError) -> tuple[str, str]:
    try:
        lock.acquire(exclusive=False, wait_seconds=0)
    except StartupError:
        return "InProgress", f"{error} Another repair is running on this volume."
    lock.release()
    return "WritersPresent", f"{error} Stop every service and task that uses this folder first."


def _reason(error: Exception) -> str:
    return "DiskFull" if is_full(error) else "CannotWrite"


def _unwritable(data_dir: Path, error: Exception) -> str:
    free = shutil.disk_usage(data_dir).free / MIB
    return (
        f"{data_dir} or the backups could not be written or read ({type(error).__name__}: {error}; {free:,.0f} MiB are "
        "free). Nothing is lost: run it again under the same id when the volume is well."
    )
