"""Running other programs: output captured, failures turned into sentences."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from local_cluster.errors import ClusterError

_running: set[subprocess.Popen[str]] = set()

ERROR_LINES = 15  # of a failed command's output, enough to show the cause


def run(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    next_step: str = "",
) -> str:
    """Standard output of the command. Raises ClusterError with the end of its error output."""
    words = [str(word) for word in argv]
    try:
        process = subprocess.Popen(
            words, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise ClusterError(f"the program {words[0]} is not installed", next_step) from error
    _running.add(process)
    try:
        output, errors = process.communicate()
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        _running.discard(process)
    if process.returncode != 0:
        tail = "\n".join((errors or output).strip().splitlines()[-ERROR_LINES:])
        raise ClusterError(f"`{_short(words)}` failed with {process.returncode}:\n{tail}", next_step)
    return output


def succeeds(argv: Sequence[str | Path]) -> bool:
    """Whether the command exists and ends with 0."""
    try:
        run(argv)
    except ClusterError:
        return False
    return True


def interrupt_all() -> None:
    """Ends the commands that other threads wait for, so that an interrupted program need not wait for them too."""
    for process in list(_running):
        process.terminate()


def _short(words: Sequence[str]) -> str:
    text = " ".join(words)
    return text if len(text) <= 160 else text[:157] + "..."
