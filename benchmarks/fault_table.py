"""The last results of the fault scenarios as they are kept (docs/fault-scenarios.json) and shown (README.md). Pure."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, cast

ROOT: Final = Path(__file__).resolve().parent.parent
KEPT: Final = ROOT / "docs" / "fault-scenarios.json"
README: Final = ROOT / "README.md"
BEGIN: Final = "<!-- begin: make bench-faults RECORD=1 -->\n"
END: Final = "<!-- end -->\n"
HEADINGS: Final = ("what happens", "what is done", "detected", "mitigated", "closed", "queries", "degraded", "failed")

Row = Mapping[str, object]


def merged(kept: Sequence[Row], measured: Sequence[Row]) -> list[Row]:
    """One row a scenario, in the order of their names; what was measured takes the place of what was kept."""
    by_name = {str(row["scenario"]): row for row in (*kept, *measured)}
    return [by_name[name] for name in sorted(by_name)]


def markdown(rows: Sequence[Row]) -> str:
    """A row for each scenario; seconds are counted from the fault."""
    lines = [f"| {' | '.join(HEADINGS)} |", f"|{'---|' * 2}{'--:|' * (len(HEADINGS) - 2)}"]
    return "".join(f"{line}\n" for line in [*lines, *map(_line, rows)])


def with_table(text: str, rows: Sequence[Row]) -> str:
    """The page with the table between its marks.

    Raises:
        ValueError: it has no such marks.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"there is no place for the table: {BEGIN.strip()} … {END.strip()}")
    return f"{before}{BEGIN}{markdown(rows)}{END}{after}"


def _line(row: Row) -> str:
    done = ", ".join(cast("Sequence[str]", row["chosen"])) or "nothing"
    if row["escalated"]:
        done += f"; a human is called ({row['escalated']})"
    if not row["success"]:
        done += "; **not as it should be**"
    times = [_seconds(row[name]) for name in ("detected", "mitigated", "closed")]
    counts = [f"{cast('int', row[name]):,}" for name in ("queries", "degraded", "failed")]
    return f"| {' | '.join((str(row['title']), done, *times, *counts))} |"


def _seconds(value: object) -> str:
    return "–" if value is None else f"{cast('float', value):.0f} s"
