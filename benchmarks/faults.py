"""Every fault scenario on the real cluster: the right option, the times, what clients saw, and what was wrong.

Runs tests/e2e/test_faults.py and prints one row for each scenario of tests/faults, and the totals.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import cast

from rich.console import Console
from rich.table import Table

from fault_table import KEPT, README, ROOT, Row, count_wrong, merged, totals, with_table
from harness.scenario import load_scenarios
from report import FOLDER, Result, finish, plain

EXAMPLES = """examples:
  make bench-faults                                        all scenarios, some hours
  make bench-faults SCENARIO=chroma_hung,no_fault          these
  make bench-faults RECORD=1                               and put the results into docs/ and the README
  make bench-faults PRINT=1                                the table of the last run again
  make bench-faults PRINT=1 RECORD=1                       and put it there; without a run, only write the README anew
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
    if given.record:
        record(rows)
        if not rows and given.only_print:
            return 0
    if not rows:
        sys.stderr.write(f"no results in {RESULTS}: run `make bench-faults`\n")
        return 1
    show(rows)
    return finish("faults", results(rows), rows)


def record(rows: Sequence[Row]) -> None:
    """Rows of scenarios that were not run stay as they are."""
    kept = cast("list[Row]", json.loads(KEPT.read_text(encoding="utf-8"))) if KEPT.exists() else []
    every = merged(kept, rows, load_scenarios())
    KEPT.write_text(json.dumps(every, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    README.write_text(with_table(README.read_text(encoding="utf-8"), every), encoding="utf-8")


def results(rows: Sequence[Row]) -> list[Result]:
    """Success, wrong actions, and the median time to mitigate of each incident."""
    found = totals(rows)
    medians = [
        plain(f"time to mitigate, median of {count}: {runbook}", median, "s")
        for runbook, (median, count) in found.mitigated.items()
    ]
    return [
        plain("scenarios", found.scenarios, ""),
        plain("success", found.success_percent, "%", at_least=95, aim=100),
        plain("wrong actions", found.wrong_actions, "", at_most=0),
        plain(f"actions in the {found.needing_nothing} that need none", found.actions_for_nothing, "", at_most=0),
        *medians,
    ]


def show(rows: Sequence[Row]) -> None:
    """One line for each scenario."""
    table = Table(title="faults", title_justify="left")
    headings = ("scenario", "options", "detect s", "mitigate s", "close s", "queries", "failed", "degraded", "wrong",
                "undone", "escalated", "silent s", "verdict")  # fmt: skip
    for heading in headings:
        table.add_column(heading, justify="left" if heading in {"scenario", "options", "escalated"} else "right")
    for row in rows:
        chosen = ", ".join(cast("Sequence[str]", row["chosen"])) or "none"
        times = [_seconds(row[name]) for name in ("detected", "mitigated", "closed")]
        counts = [str(row[name]) for name in ("queries", "failed", "degraded")]
        verdict = "right" if row["success"] else "WRONG"
        table.add_row(
            str(row["scenario"]), chosen, *times, *counts, str(count_wrong(row)), str(row["undone"]),
            str(row["escalated"]), _seconds(row.get("silence")), verdict, style=None if row["success"] else "bold red",
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
