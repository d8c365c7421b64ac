"""Runbooks are found by being there."""

from dataclasses import replace

import pytest

from knowledgebeast_operator import runbooks
from knowledgebeast_operator.runbooks import RunbookError, ordered
from knowledgebeast_operator.runbooks.chroma_unreachable import RUNBOOK


def test_every_module_is_found() -> None:
    assert RUNBOOK in runbooks.load()


def test_they_are_ordered_by_number() -> None:
    first, last = replace(RUNBOOK, name="First", number=1), replace(RUNBOOK, name="Last", number=9)
    assert ordered([last, RUNBOOK, first]) == (first, RUNBOOK, last)


@pytest.mark.parametrize(
    ("twin", "said"),
    [(replace(RUNBOOK, number=3), "name ChromaUnreachable"), (replace(RUNBOOK, name="Other"), "number 2")],
)
def test_twins_are_refused(twin: object, said: str) -> None:
    with pytest.raises(RunbookError, match=said):
        ordered([RUNBOOK, twin])  # type: ignore[list-item]
