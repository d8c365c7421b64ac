"""The table of fault scenarios in the README is that of the kept results, and those are of today's scenarios."""

import json
from collections.abc import Mapping
from typing import cast

from fault_table import KEPT, README, merged, with_table
from harness.scenario import load_scenarios

Row = Mapping[str, object]


def kept() -> list[Row]:
    return cast("list[Row]", json.loads(KEPT.read_text(encoding="utf-8")))


def test_the_readme_shows_what_is_kept() -> None:
    text = README.read_text(encoding="utf-8")
    assert with_table(text, kept()) == text, "run: make bench-faults PRINT=1 RECORD=1"


def test_what_is_kept_is_of_scenarios_that_can_be_run_again() -> None:
    assert merged(kept(), [], load_scenarios()) == kept()
