"""The last results of the fault scenarios as they are kept (docs/fault-scenarios.json) and shown (README.md). Pure."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from harness.scenario import End, Scenario

ROOT: Final = Path(__file__).resolve().parent.parent
KEPT: Final = ROOT / "docs" / "fault-scenarios.json"
README: Final = ROOT / "README.md"
BEGIN: Final = "<!-- begin: make bench-faults RECORD=1 -->\n"
END: Final = "<!-- end -->\n"
WORDS: Final = ("what happens", "what is done", "a human is called")
NUMBERS: Final = ("detected", "mitigated", "closed", "queries", "degraded", "failed", "wrong", "undone")
NEEDS_NOTHING: Final = frozenset({End.QUIET, End.LEFT_ALONE})

Row = Mapping[str, object]


@dataclass(frozen=True)
class Totals:
    """All rows together.

    Attributes:
        scenarios: how many there are.
        right: how many of them ended as they should.
        wrong_actions: carried out, and none that should have been.
        needing_nothing: scenarios in which nothing must be done.
        actions_for_nothing: carried out in those.
        undone: actions that were taken back.
        escalated: scenarios in which a human was called.
        mitigated: median seconds from the fault until it was mitigated, and of how many scenarios, by runbook.
        silent: scenarios after whose end the alerts were watched, and for how many seconds at least; 0 for none.
        heard: alerts that fired then, and after how many.
    """

    scenarios: int
    right: int
    wrong_actions: int
    needing_nothing: int
    actions_for_nothing: int
    undone: int
    escalated: int
    mitigated: Mapping[str, tuple[float, int]]
    silent: tuple[int, float]
    heard: Mapping[str, int]

    @property
    def success_percent(self) -> float:
        return 100 * self.right / self.scenarios


def totals(rows: Sequence[Row]) -> Totals:
    """Of at least one row."""
    idle = [row for row in rows if row["end"] in NEEDS_NOTHING]
    times: dict[str, list[float]] = {}
    for row in rows:
        if row["mitigated"] is not None:
            times.setdefault(str(row["runbook"]), []).append(cast("float", row["mitigated"]))
    watched = [row for row in rows if row.get("alerts") is not None and row["silence"]]
    return Totals(
        scenarios=len(rows),
        right=sum(bool(row["success"]) for row in rows),
        wrong_actions=sum(map(count_wrong, rows)),
        needing_nothing=len(idle),
        actions_for_nothing=sum(map(count_wrong, idle)),
        undone=sum(cast("int", row["undone"]) for row in rows),
        escalated=sum(bool(row["escalated"]) for row in rows),
        mitigated={name: (statistics.median(found), len(found)) for name, found in sorted(times.items())},
        silent=(len(watched), min((cast("float", row["silence"]) for row in watched), default=0.0)),
        heard=Counter(sorted(alert for row in watched for alert in cast("Sequence[str]", row["alerts"]))),
    )


def count_wrong(row: Row) -> int:
    """Actions of this scenario that should not have been carried out."""
    return len(cast("Sequence[str]", row["wrong_actions"]))


def merged(kept: Sequence[Row], measured: Sequence[Row], scenarios: Mapping[str, Scenario]) -> list[Row]:
    """One row for each scenario that there is, in the order of their names.

    What was measured takes the place of what was kept; title, runbook and end are always those of the scenario.
    """
    by_name = {str(row["scenario"]): row for row in (*kept, *measured)}
    return [_named(by_name[name], scenarios[name]) for name in sorted(by_name.keys() & scenarios.keys())]


def markdown(rows: Sequence[Row]) -> str:
    """A row for each scenario, and the totals; seconds are counted from the fault."""
    lines = [f"| {' | '.join((*WORDS, *NUMBERS))} |", f"|{'---|' * len(WORDS)}{'--:|' * len(NUMBERS)}"]
    return "".join(f"{line}\n" for line in [*lines, *map(_line, rows), "", *_totals(totals(rows))])


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


def _named(row: Row, scenario: Scenario) -> Row:
    given = {"scenario": row["scenario"], "title": scenario.title, "runbook": scenario.runbook, "end": scenario.end}
    return {**given, **{key: value for key, value in row.items() if key not in given}}


def _line(row: Row) -> str:
    done = ", ".join(cast("Sequence[str]", row["chosen"])) or "nothing"
    if not row["success"]:
        done += "; **not as it should be**"
    called = str(row["escalated"]) or "–"
    times = [_seconds(row[name]) for name in ("detected", "mitigated", "closed")]
    counts = [f"{cast('int', row[name]):,}" for name in ("queries", "degraded", "failed")]
    cells = (str(row["title"]), done, called, *times, *counts, str(count_wrong(row)), str(row["undone"]))
    return f"| {' | '.join(cells)} |"


def _totals(found: Totals) -> Sequence[str]:
    medians = [f"{name} {median:.0f} s ({count})" for name, (median, count) in found.mitigated.items()]
    watched, seconds = found.silent
    heard = ", ".join(f"{name} ({count})" for name, count in found.heard.items()) or "none"
    silence = (
        f"After {watched} of them our own alerts were watched for {seconds:.0f} s at least. Fired meanwhile, which is "
        f"right only where the scenario allows it, because the rule looks further back than it: {heard}."
    )
    return [
        f"Together: {found.right} of {found.scenarios} scenarios ended as they should ({found.success_percent:.0f} %). "
        f"Wrong actions: {found.wrong_actions}. Actions in the {found.needing_nothing} scenarios that need none: "
        f"{found.actions_for_nothing}.",
        f"Undone: {found.undone}. A human was called in {found.escalated}.",
        *([silence] if watched else []),
        "",
        "Median time to mitigate, by the incident that opens first (of how many scenarios):",
        f"{', '.join(medians)}.",
    ]


def _seconds(value: object) -> str:
    return "–" if value is None else f"{cast('float', value):.0f} s"
