"""What the README says about the fault scenarios, from the rows that were kept."""

import contextlib

import pytest

from fault_table import BEGIN, END, markdown, merged, totals, with_table
from harness.scenario import End, Scenario

Row = dict[str, object]


def row(name: str = "chroma_hung", **fields: object) -> Row:
    given: Row = {
        **{"scenario": name, "title": name, "runbook": "ChromaUnreachable", "end": "resolved"},
        **{"chosen": ["RestartChroma (Successful)"], "detected": 10.0, "mitigated": 30.0, "closed": 40.0},
        **{"queries": 1000, "failed": 0, "degraded": 5, "wrong_actions": [], "undone": 0, "escalated": ""},
        **{"silence": 120.0, "alerts": [], "problems": [], "success": True},
    }
    return {**given, **fields}


def scenario(title: str = "Chroma hangs", end: End = End.RESOLVED) -> Scenario:
    return Scenario(title, lambda _library: contextlib.nullcontext(), end, "ChromaUnreachable")


def test_actions_where_none_is_needed_are_counted_by_the_end_of_the_scenario() -> None:
    wrong = {"chosen": ["RestartChroma (Failed)"], "wrong_actions": ["RestartChroma"], "detected": 5.0}
    found = totals([row(), row("a", end="quiet", **wrong), row("b", end="left alone", **wrong), row("c", **wrong)])
    assert (found.needing_nothing, found.actions_for_nothing, found.wrong_actions) == (2, 2, 3)


def test_times_to_mitigate_are_medians_of_each_incident() -> None:
    disk = [row(f"disk_{seconds}", runbook="DiskSpaceCritical", mitigated=seconds) for seconds in (40.0, 50.0, 90.0)]
    found = totals([row(), row("escalated", mitigated=None, escalated="NoOptionApplicable"), *disk])
    assert found.mitigated == {"ChromaUnreachable": (30.0, 1), "DiskSpaceCritical": (50.0, 3)}
    assert found.escalated == 1


def test_success_is_a_share_of_all_scenarios() -> None:
    assert totals([row(), row("b", success=False), row("c", undone=2), row("d")]).success_percent == 75
    assert totals([row(undone=2)]).undone == 2


def test_only_watched_silence_counts() -> None:
    unwatched = [row("b", silence=0.0), row("c", silence=500.0, alerts=None), {**row("d"), "silence": 20.5}]
    assert totals([row(), *unwatched]).silent == (2, 20.5)
    assert totals([row(silence=0.0)]).silent == (0, 0.0)
    assert "watched" not in markdown([row(silence=0.0)])


def test_alerts_that_were_allowed_to_fire_are_told() -> None:
    page = markdown([row(alerts=["DiskSpaceCritical"]), row("b", alerts=["DiskSpaceCritical"]), row("c")])
    assert "After 3 of them our own alerts were watched for 120 s at least" in page
    assert "DiskSpaceCritical (2)." in page


def test_the_table_has_a_row_for_each_scenario_and_the_totals_below() -> None:
    page = markdown([row(title="Chroma hangs", wrong_actions=["VacuumDatabase"], undone=1), row("b", escalated="Why")])
    lines = page.splitlines()
    assert lines[2] == (
        "| Chroma hangs | RestartChroma (Successful) | – | 10 s | 30 s | 40 s | 1,000 | 5 | 0 | 1 | 1 |"
    )
    assert "| Why |" in lines[3]
    assert len({line.count("|") for line in lines[:4]}) == 1
    assert "2 of 2 scenarios ended as they should (100 %). Wrong actions: 1." in page
    assert "ChromaUnreachable 30 s (2)" in page


def test_a_line_tells_what_was_wrong() -> None:
    bad = row(chosen=["Restart (Undone)"], escalated="Why", success=False, mitigated=None, closed=None)
    assert (
        markdown([bad])
        .splitlines()[2]
        .startswith("| chroma_hung | Restart (Undone); **not as it should be** | Why | 10 s | – | – | 1,000 |")
    )


def test_what_was_measured_takes_the_place_of_what_was_kept() -> None:
    known = {"chroma_hung": scenario(), "no_fault": scenario("no fault", End.QUIET)}
    kept: list[Row] = [{**row("no_fault", queries=1), "end": "resolved"}, row(queries=2), row("gone")]
    found = merged(kept, [row(queries=3)], known)
    assert [(one["scenario"], one["queries"], one["end"]) for one in found] == [
        ("chroma_hung", 3, "resolved"),
        ("no_fault", 1, "quiet"),
    ]
    assert found[0]["title"] == "Chroma hangs"


def test_rows_from_before_there_were_ends_get_them_from_the_scenario() -> None:
    old = {key: value for key, value in row().items() if key not in ("runbook", "end", "silence", "alerts")}
    found = merged([old], [], {"chroma_hung": scenario()})
    assert (found[0]["runbook"], found[0]["end"]) == ("ChromaUnreachable", "resolved")
    assert totals(found).silent == (0, 0.0)


def test_the_page_keeps_what_is_around_the_table() -> None:
    page = with_table(f"before\n{BEGIN}old\n{END}after\n", [row()])
    assert page.startswith(f"before\n{BEGIN}| what happens")
    assert page.endswith(f"{END}after\n")
    assert "old" not in page
    with pytest.raises(ValueError, match="no place"):
        with_table("no marks", [row()])
