"""The lists of seeded bugs fit the source of today; whether a test finds each is for `make test-seeded-bugs`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import seeded_bugs
from seeded_bugs import FAILED, PASSED, SeededBug, read_bugs, red_anyway, seed

BUGS = read_bugs()


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_its_text_is_there_once_and_its_test_exists(bug: SeededBug) -> None:
    assert bug.problem() is None
    assert bug.old != bug.new


def test_names_are_unique() -> None:
    assert len({bug.name for bug in BUGS}) == len(BUGS) > 0


def test_a_process_runs_the_copy_with_the_bug(tmp_path: Path) -> None:
    bug = BUGS[0]
    path = seed(bug, tmp_path)
    show = "import knowledgebeast_service, knowledgebeast_operator; print(knowledgebeast_service.__file__)"
    environment = os.environ | {"PYTHONPATH": path}
    shown = subprocess.run([sys.executable, "-c", show], env=environment, capture_output=True, text=True, check=True)
    assert Path(shown.stdout.strip()).is_relative_to(tmp_path)
    assert bug.new in (tmp_path / bug.file).read_text(encoding="utf-8")
    assert bug.problem(tmp_path) is not None


@pytest.mark.parametrize(("second", "red"), [(PASSED, set[str]()), (FAILED, {"a.py::test_b[1]"})])
def test_only_what_is_red_twice_without_a_bug_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second: int, red: set[str]
) -> None:
    asked: list[list[str]] = []

    def play(tests: list[str], environment: dict[str, str], log: Path) -> int:
        asked.append(tests)
        log.write_text("E  AssertionError\nFAILED a.py::test_b[1] - AssertionError\n1 failed, 1 passed in 0.1s\n")
        return FAILED if len(asked) == 1 else second

    monkeypatch.setattr(seeded_bugs, "run_tests", play)
    assert red_anyway(["a.py::test_b[1]", "a.py::test_c"], {}, tmp_path / "log") == red
    assert asked == [["a.py::test_b[1]", "a.py::test_c"], ["a.py::test_b[1]"]]


def test_an_entry_that_fits_no_more_says_why(tmp_path: Path) -> None:
    (tmp_path / "service/src").mkdir(parents=True)
    (tmp_path / "service/src/a.py").write_text("x = 1\nx = 1\n")
    (tmp_path / "test_a.py").write_text("def test_a(): ...\n")
    bug = SeededBug("b", "service/src/a.py", "x = 1", "x = 2", "test_a.py::test_a", {}, "l")
    assert "occurs 2 times" in str(bug.problem(tmp_path))
    (tmp_path / "service/src/a.py").write_text("x = 1\n")
    assert bug.problem(tmp_path) is None
    (tmp_path / "test_a.py").write_text("def test_b(): ...\n")
    assert "no test" in str(bug.problem(tmp_path))
    (tmp_path / "service/src/a.py").unlink()
    assert "there is no service/src/a.py" in str(bug.problem(tmp_path))
