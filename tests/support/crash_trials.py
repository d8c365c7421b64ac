"""What every maintenance command is put through at its calls that change files (see `crashpoints`).

Where CRASHES=all (`make crash-tests`) each trial takes every call, else a few, spread over all. Of each recovery that
is killed in its turn five instants are taken then, else one.
"""

import os
import shutil
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from crashpoints.runner import Mode, Outcome

IS_ALL = os.environ.get("CRASHES") == "all"
SECOND_KILLS = 5 if IS_ALL else 1
TEST_SECONDS = 7200.0 if IS_ALL else 600.0  # on a machine that is busy with something else
GOLDEN = 0.618  # of its multiples the fractions lie spread over 0 to 1, however many there are
FREEING = ("unlink", "rmdir")  # calls that need no space


class Trial(Protocol):
    """A command on folders that can be put back as they were."""

    @property
    def folders(self) -> Sequence[Path]:
        """All that it may change."""
        ...

    def anew(self) -> None:
        """Put everything back as it was before the first run."""
        ...

    def run(self, mode: Mode = Mode.COUNT, at: int = 0) -> Outcome: ...

    def later(self) -> Outcome:
        """Run it when there is room again; under its old id where that runs again what did not succeed."""
        ...

    def require_safe(self) -> None:
        """What must hold at every instant."""
        ...

    def require_done(self, outcome: Outcome) -> None:
        """What must hold at the end, each effect once."""
        ...


def some(numbers: Sequence[int], few: int) -> Sequence[int]:
    """About `few` of them, spread over all; or all."""
    return numbers if IS_ALL else numbers[:: max(1, len(numbers) // few)]


def killed(trial: Trial, few: int) -> None:
    """SIGKILL before a call, and run again."""
    _kill(trial, Mode.BEFORE, some(range(1, _quiet(trial).calls + 1), few))


def torn(trial: Trial, few: int) -> None:
    """SIGKILL when half of a write is done, and run again."""
    log = _quiet(trial).log
    _kill(trial, Mode.TORN, some([at for at, call in enumerate(log, start=1) if call.bytes > 1], few))


def killed_again(trial: Trial, few: int) -> None:
    """SIGKILL, SIGKILL in the run after it, and run again."""
    pairs = 0
    for first in some(range(1, _quiet(trial).calls + 1), few):
        trial.anew()
        assert trial.run(Mode.BEFORE, first).is_killed
        with _kept(trial.folders) as put_back:
            recovery = trial.run()
            with _told(f"after a kill at call {first}"):
                trial.require_done(recovery)
            for turn in range(min(SECOND_KILLS, recovery.calls)):
                second = 1 + int((GOLDEN * (first + turn)) % 1 * recovery.calls)
                put_back()
                with _told(f"killed at call {first}, and at {second} of the recovery, {recovery.log[second - 1]}"):
                    assert trial.run(Mode.BEFORE, second).is_killed
                    trial.require_safe()
                    trial.require_done(trial.run())
                pairs += 1
    assert pairs >= min(few, 3), "no recovery was killed"


def out_of_space(trial: Trial, mode: Mode, few: int, reasons: Sequence[str | None]) -> None:
    """A call fails for want of space (FAIL), or all from there on do (FAIL_ON); then there is room again."""
    log = _quiet(trial).log
    for at in some([at for at, call in enumerate(log, start=1) if call.name not in FREEING], few):
        trial.anew()
        outcome = trial.run(mode, at)
        with _told(f"out of space at call {at}, {log[at - 1]}: {outcome.result}"):
            assert outcome.killed_by is None
            assert outcome.raised is None, outcome.traceback
            assert outcome.result["exit"] == 0 or outcome.result.get("reason") in reasons
            trial.require_safe()
            trial.require_done(trial.later())


def _quiet(trial: Trial) -> Outcome:
    trial.anew()
    quiet = trial.run()
    trial.require_done(quiet)
    return quiet


def _kill(trial: Trial, mode: Mode, calls: Sequence[int]) -> None:
    assert calls, "there is nothing to kill it at"
    for at in calls:
        trial.anew()
        outcome = trial.run(mode, at)
        with _told(f"{mode.name} at call {at}, {outcome.log[-1]}"):
            assert outcome.is_killed
            trial.require_safe()
            trial.require_done(trial.run())


@contextmanager
def _told(where: str) -> Generator[None]:
    """What fails in here says where it was."""
    try:
        yield
    except BaseException as error:
        error.add_note(where)
        raise


@contextmanager
def _kept(folders: Sequence[Path]) -> Generator[Callable[[], None]]:
    """The folders as they are now, to be put back as often as wanted."""
    copies = {one: one.with_name(f"{one.name}.kept") for one in folders}
    for one, copy in copies.items():
        copy_tree(one, copy)

    def put_back() -> None:
        for one, copy in copies.items():
            copy_tree(copy, one)

    try:
        yield put_back
    finally:
        for copy in copies.values():
            shutil.rmtree(copy, ignore_errors=True)


def copy_tree(source: Path, target: Path) -> None:
    """In place of whatever is there; nothing where there is no source."""
    if target.exists():
        shutil.rmtree(target)
    if source.exists():
        shutil.copytree(source, target)
