"""Proof that the tests can fail: bugs are put into a copy of the source, one at a time, and a test must turn red.

The bugs are listed in tests/seeded_bugs/*.toml. For each the sources are copied, the old text is replaced by the new
one, and the named test runs with the copy first on PYTHONPATH, so that the processes which it starts run it, too.
Before that all named tests run on the source as it is. One that is red gets a second go, for a busy machine makes tests
of times fail; one that is red again proves nothing, and its bugs count as not found.

Examples:
    python hack/seeded_bugs.py                    all of them, as `make test-seeded-bugs` does
    python hack/seeded_bugs.py sequence min_seq   those with one of these words in their name or file
    python hack/seeded_bugs.py --list             what there is
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
LISTS = ROOT / "tests" / "seeded_bugs"
SOURCES = ("service/src", "operator/src")
TEST_SECONDS = 600.0
RED_LINE = re.compile(r"^(?:FAILED|ERROR) ([^\s\[]+)", re.MULTILINE)  # in the summary of pytest
RED_ANYWAY = "no verdict: the test does not pass without the bug either"
# Of pytest: 0 = all passed, 1 = tests failed; anything else says that none has run to its end.
PASSED, FAILED = 0, 1


@dataclass(frozen=True)
class SeededBug:
    """An entry of a list. `old` occurs exactly once in `file`; `test` is a pytest node id, `environment` is for it."""

    name: str
    file: str
    old: str
    new: str
    test: str
    environment: Mapping[str, str]
    source: str

    def problem(self, root: Path = ROOT) -> str | None:
        """Why the entry fits the source no more, or None."""
        path = root / self.file
        if not self.file.startswith(SOURCES) or not path.is_file():
            return f"there is no {self.file} below {' or '.join(SOURCES)}"
        times = path.read_text(encoding="utf-8").count(self.old)
        if times != 1:
            return f"the old text occurs {times} times in {self.file}, not once: write the bug for the code of today"
        test_file, _, function = self.test.partition("::")
        name = function.partition("[")[0]
        if not (root / test_file).is_file() or f"def {name}(" not in (root / test_file).read_text(encoding="utf-8"):
            return f"there is no test {self.test}"
        return None


@dataclass(frozen=True)
class Outcome:
    """What became of a bug; `verdict` is `red` where a test has found it."""

    bug: SeededBug
    verdict: str
    seconds: float

    @property
    def is_found(self) -> bool:
        return self.verdict == "red"


def read_bugs(folder: Path = LISTS) -> list[SeededBug]:
    """All lists, in the order of their names. Raises KeyError for an entry without a field."""
    bugs: list[SeededBug] = []
    for path in sorted(folder.glob("*.toml")):
        entries = tomllib.loads(path.read_text(encoding="utf-8"))["bug"]
        bugs += [
            SeededBug(
                name=one["name"],
                file=one["file"],
                old=one["old"],
                new=one["new"],
                test=one["test"],
                environment=one.get("environment", {}),
                source=path.stem,
            )
            for one in entries
        ]
    return bugs


def seed(bug: SeededBug, folder: Path, root: Path = ROOT) -> str:
    """Copy the sources into `folder`, put the bug in, and return the PYTHONPATH that finds them first."""
    for source in SOURCES:
        shutil.copytree(root / source, folder / source, ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / bug.file
    path.write_text(path.read_text(encoding="utf-8").replace(bug.old, bug.new), encoding="utf-8")
    return os.pathsep.join(str(folder / source) for source in SOURCES)


def run_tests(tests: Sequence[str], environment: Mapping[str, str], log: Path) -> int:
    """The exit status of pytest; PASSED - 1 when it was stopped after TEST_SECONDS for each test."""
    stop = ["-x"] if len(tests) == 1 else []
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *stop, *tests]
    with log.open("wb") as output:
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=os.environ | environment, stdout=output, stderr=output,
                timeout=TEST_SECONDS * len(tests), check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return PASSED - 1
    return done.returncode


def red_anyway(tests: Sequence[str], environment: Mapping[str, str], log: Path) -> set[str]:
    """Those that do not pass on the source as it is, twice. Prints why."""
    red = set(tests)
    for _ in range(2):
        status = run_tests(sorted(red), environment, log)
        if status == PASSED:
            return set()
        said = log.read_text(encoding="utf-8", errors="replace")
        print(said)
        if status == FAILED:
            red = {test for test in red if test.partition("[")[0] in RED_LINE.findall(said)}
    return red


def try_bug(bug: SeededBug, log: Path) -> Outcome:
    """Seed it and see."""
    started = time.monotonic()
    if problem := bug.problem():
        return Outcome(bug, problem, 0.0)
    with tempfile.TemporaryDirectory(prefix="seeded-bug-") as folder:
        path = seed(bug, Path(folder))
        status = run_tests([bug.test], {"PYTHONPATH": path, **bug.environment}, log)
    verdicts = {FAILED: "red", PASSED: "NOT FOUND: the test passes with the bug"}
    verdict = verdicts.get(status, f"no verdict: pytest ended with {status}, see {log}")
    return Outcome(bug, verdict, time.monotonic() - started)


def show(outcomes: Sequence[Outcome]) -> None:
    """The table."""
    table = Table(title="seeded bugs", title_justify="left")
    for heading in ("list", "bug", "test", "verdict", "seconds"):
        table.add_column(heading, overflow="fold")
    for one in outcomes:
        style = None if one.is_found else "bold red"
        table.add_row(
            one.bug.source,
            one.bug.name,
            one.bug.test.rpartition("::")[2],
            one.verdict,
            f"{one.seconds:.0f}",
            style=style,
        )
    (Console() if sys.stdout.isatty() else Console(width=180)).print(table)


def main(arguments: Sequence[str]) -> int:
    """The command line. Returns 1 when a bug was not found, or a test is red without any."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="only bugs with one of these in their name or the name of their list")
    parser.add_argument("--list", action="store_true", help="print the names and end")
    options = parser.parse_args(arguments)
    words: list[str] = options.words
    bugs = [one for one in read_bugs() if not words or any(word in f"{one.name} {one.source}" for word in words)]
    if options.list:
        print("\n".join(f"{one.source}: {one.name}" for one in bugs))
        return 0
    with tempfile.TemporaryDirectory(prefix="seeded-bugs-") as folder:
        log = Path(folder) / "log"
        red: set[str] = set()
        for environment in {tuple(sorted(one.environment.items())) for one in bugs}:
            tests = sorted({one.test for one in bugs if tuple(sorted(one.environment.items())) == environment})
            red |= red_anyway(tests, dict(environment), log)
        outcomes: list[Outcome] = []
        for number, bug in enumerate(bugs, start=1):
            outcomes.append(Outcome(bug, RED_ANYWAY, 0.0) if bug.test in red else try_bug(bug, log))
            print(f"[{number}/{len(bugs)}] {bug.name}: {outcomes[-1].verdict}", flush=True)
            if not outcomes[-1].is_found and log.exists():
                print(log.read_text(encoding="utf-8", errors="replace")[-2000:])
    show(outcomes)
    return int(not all(one.is_found for one in outcomes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
