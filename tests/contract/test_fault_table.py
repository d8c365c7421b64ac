"""The table of fault scenarios in the README is that of the kept results, and every scenario in it exists."""

import json
from collections.abc import Mapping
from typing import cast

import pytest

from fault_table import BEGIN, KEPT, README, markdown, merged, with_table
from harness.scenario import load_scenarios

Row = Mapping[str, object]


def kept() -> list[Row]:
    return cast("list[Row]", json.loads(KEPT.read_text(encoding="utf-8")))


def test_the_readme_shows_what_is_kept() -> None:
    text = README.read_text(encoding="utf-8")
    assert with_table(text, kept()) == text


def test_what_is_kept_can_be_run_again() -> None:
    scenarios = load_scenarios()
    assert {(row["scenario"], row["title"]) for row in kept()} <= {(name, one.title) for name, one in scenarios.items()}


def row(name: str, **changes: object) -> Row:
    usual: dict[str, object] = {
        **{"title": name, "chosen": [], "escalated": "", "success": True},
        **{"detected": None, "mitigated": None, "closed": None, "queries": 1200, "degraded": 3, "failed": 0},
    }
    return {"scenario": name, **usual, **changes}


def test_a_new_result_takes_the_place_of_the_old_one() -> None:
    assert merged([row("b"), row("a", queries=1)], [row("a", queries=2)]) == [row("a", queries=2), row("b")]


def test_a_line_tells_what_was_done_and_what_was_wrong() -> None:
    bad = row("x", chosen=["Restart (Undone)"], escalated="NoOptionApplicable", success=False, detected=12.6)
    line = markdown([bad]).splitlines()[-1]
    assert line == (
        "| x | Restart (Undone); a human is called (NoOptionApplicable); **not as it should be** "
        "| 13 s | – | – | 1,200 | 3 | 0 |"
    )


def test_a_page_without_a_place_is_refused() -> None:
    with pytest.raises(ValueError, match="no place"):
        with_table(f"{BEGIN}no end", [])
