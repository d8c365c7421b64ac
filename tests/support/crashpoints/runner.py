"""Kill a piece of Python at every call that changes the file system, at a few milliseconds a kill.

    with CrashRunner(build_shim(tmp_path), ["my.module"]) as runner:
        calls = runner.run("my.module:work", [str(folder)], folder).calls
        for at in range(1, calls + 1):
            ...prepare the folder...
            assert runner.run("my.module:work", [str(folder)], folder, mode=Mode.BEFORE, at=at).is_killed
            ...run it again, and look at the folder...

The target takes and returns what JSON can hold. It runs in a forked child of a process that has imported everything;
syncs are counted and not done, because a kill cannot show them (the order of the calls can: `Outcome.log`).
"""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

HERE = Path(__file__).parent


class Mode(IntEnum):
    """What happens at call `at`; the numbers are those of the shim."""

    COUNT = 0
    BEFORE = 1  # killed before it
    TORN = 2  # killed when half of the bytes are written; like BEFORE where it writes nothing
    FAIL = 3  # it alone fails
    FAIL_ON = 4  # it fails, and every later one that needs space: a disk that is full and stays so


@dataclass(frozen=True)
class Call:
    """One call of the log; `other` is the target of a rename or link."""

    name: str
    path: str
    other: str
    bytes: int


@dataclass(frozen=True)
class Outcome:
    """How a run ended; `result` and `raised` are None when it was killed."""

    killed_by: int | None
    calls: int
    result: Any
    raised: str | None
    traceback: str
    log: tuple[Call, ...]

    @property
    def is_killed(self) -> bool:
        return self.killed_by == 9


def build_shim(folder: Path) -> Path:
    """The shared library, compiled (0.2 s); the test is skipped where there is no compiler."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (hack/setup.sh installs one where it may)")
    library = folder / "crashpoints.so"
    if not library.exists():
        flags = ["-O1", "-Wall", "-Werror", "-shared", "-fPIC"]
        subprocess.run(["cc", *flags, "-o", str(library), str(HERE / "shim.c"), "-ldl"], check=True)
    return library


def preloaded_environment(
    library: Path,
    folders: Sequence[Path],
    log: Path,
    *,
    mode: Mode = Mode.COUNT,
    at: int = 0,
    error: int = errno.ENOSPC,
) -> dict[str, str]:
    """For a whole process of its own, such as a service; its children inherit it. Syncs are done."""
    settings = {"FOLDERS": _joined(folders), "LOG": log, "AT": at, "MODE": int(mode), "ERROR": error, "SYNC": 1}
    return {"LD_PRELOAD": str(library)} | {f"CRASHPOINTS_{name}": str(value) for name, value in settings.items()}


def read_log(log: Path) -> tuple[Call, ...]:
    """The calls of a log file, in order."""
    if not log.exists():
        return ()
    fields = (line.split("\t") for line in log.read_text(encoding="utf-8").splitlines())
    return tuple(Call(name, path, other, int(size)) for _number, name, path, other, size in fields)


class CrashRunner:
    """The process that forks; one run at a time."""

    def __init__(self, library: Path, imports: Sequence[str]) -> None:
        self._log = library.with_name(f"calls-{os.getpid()}-{id(self)}.log")
        environment = os.environ | {
            "LD_PRELOAD": str(library),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "OPENBLAS_NUM_THREADS": "1",  # a process that forks should have no threads
        }
        command = [sys.executable, str(HERE / "server.py"), *imports]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def run(
        self,
        target: str,
        arguments: Sequence[object],
        folders: Path | Sequence[Path],
        *,
        mode: Mode = Mode.COUNT,
        at: int = 0,
        error: int = errno.ENOSPC,
    ) -> Outcome:
        """Run `module:function` in a child and wait for its end."""
        self._log.unlink(missing_ok=True)
        order = {
            "target": target,
            "arguments": [str(one) if isinstance(one, Path) else one for one in arguments],
            "folders": _joined([folders] if isinstance(folders, Path) else folders),
            "log": str(self._log),
            "mode": int(mode),
            "at": at,
            "error": error,
            "sync": 0,
        }
        answer = self._ask(order)
        log = read_log(self._log)
        raised, where = answer.get("raised"), answer.get("traceback", "")
        return Outcome(answer["killed_by"], len(log), answer.get("result"), raised, where, log)

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the preloaded process ended: see its standard error"
        return json.loads(line)

    def __enter__(self) -> Self:
        self._answer()  # ready
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


def _joined(folders: Sequence[Path]) -> str:
    return ":".join(str(folder.resolve()) for folder in folders)
