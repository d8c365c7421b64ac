"""Every fault scenario on the real cluster: the right option, the times, what clients saw, and what was wrong.

Runs tests/e2e/test_faults.py and prints one row for each scenario of tests/faults, and the totals.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import cast

from rich.console import Console
from rich.table import Table

from fault_table import KEPT, README, ROOT, Row, merged, with_table
from report import FOLDER, Result, finish, plain

EXAMPLES = """examples:
  make bench-faults                                        all scenarios, some hours
  make bench-faults SCENARIO=chroma_hung,no_fault          these
  make bench-faults RECORD=1                               and put the results into docs/ and the README
  uv run python benchmarks/faults.py --print               the table of the last run again
"""
RESULTS = FOLDER / "faults"
SILENCE_SECONDS = 120


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenario", default="all", help="names with commas; all of them by default")
    parser.add_argument(
        "--record",
        action="store_true",
        help="keep the results in docs/, and show them in README.md",
    )
    parser.add_argument("--print", action="store_true", dest="only_print", help="run nothing")
    given = parser.parse_args()
    if not given.only_print:
        shutil.rmtree(RESULTS, ignore_errors=True)
        environment = os.environ | {"FAULTS": given.scenario, "FAULTS_SILENCE": str(SILENCE_SECONDS)}
        subprocess.run([sys.executable, "-m", "pytest", "-q", "tests/e2e/test_faults.py"], cwd=ROOT, env=environment)
    rows = [cast("Row", json.loads(path.read_text(encoding="utf-8"))) for path in sorted(RESULTS.glob("*.json"))]
    if not rows:
        sys.stderr.write(f"no results in {RESULTS}: run `make bench-faults`\n")
        return 1
    show(rows)
    if given.record:
        record(rows)
    return finish("faults", totals(rows), rows)


def record(rows: Sequence[Row]) -> None:
    """Rows of scenarios that were not run stay as they are."""
    kept = cast("list[Row]", json.loads(KEPT.read_text(encoding="utf-8"))) if KEPT.exists() else []
    every = merged(kept, rows)
    KEPT.write_text(json.dumps(every, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    README.write_text(with_table(README.read_text(encoding="utf-8"), every), encoding="utf-8")


def totals(rows: Sequence[Row]) -> list[Result]:
    """Success, wrong actions, and the median time to mitigate."""
    times = [float(cast("float", row["mitigated"])) for row in rows if row["mitigated"] is not None]
    quiet = [row for row in rows if not row["chosen"] and row["detected"] is None]
    results = [
        plain("scenarios", len(rows), ""),
        plain("success", 100 * sum(bool(row["success"]) for row in rows) / len(rows), "%", at_least=95, aim=100),
        plain("wrong actions", sum(map(_count, rows)), "", at_most=0),
        plain("actions in runs without a fault", sum(map(_count, quiet)), "", at_most=0),
    ]
    if times:
        results.append(plain("time to mitigate, median", statistics.median(times), "s"))
    return results


def _count(row: Row) -> int:
    return len(cast("Sequence[str]", row["wrong_actions"]))


def show(rows: Sequence[Row]) -> None:
    """One line for each scenario."""
    table = Table(title="faults", title_justify="left")
    headings = ("scenario", "options", "detect s", "mitigate s", "close s", "queries", "failed", "degraded", "wrong",
                "undone", "escalated", "verdict")  # fmt: skip
    for heading in headings:
        table.add_column(heading, justify="left" if heading in {"scenario", "options", "escalated"} else "right")
    for row in rows:
        chosen = ", ".join(cast("Sequence[str]", row["chosen"])) or "none"
        times = [_seconds(row[name]) for name in ("detected", "mitigated", "closed")]
        counts = [str(row[name]) for name in ("queries", "failed", "degraded")]
        verdict = "right" if row["success"] else "WRONG"
        table.add_row(
            str(row["scenario"]), chosen, *times, *counts, str(_count(row)), str(row["undone"]), str(row["escalated"]),
            verdict, style=None if row["success"] else "bold red",
        )  # fmt: skip
    console = Console() if sys.stdout.isatty() else Console(width=220)
    console.print(table)
    for row in rows:
        for problem in cast("Sequence[str]", row["problems"]):
            console.print(f"{row['scenario']}: {problem}", highlight=False, markup=False)


def _seconds(value: object) -> str:
    return "" if value is None else f"{cast('float', value):.1f}"


if __name__ == "__main__":
    sys.exit(main())
