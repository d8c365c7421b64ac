"""The limits of "Escalation Criteria" are fields of the object."""

from dataclasses import replace

import pytest

from kb_facts import NOW, SCRAPE, facts, incident, minutes, policy
from knowledgebeast_operator.core.facts import Known
from knowledgebeast_operator.core.runbook import Limits, Runbook
from knowledgebeast_operator.runbooks import (
    chroma_unreachable,
    embedding_model_failure,
    high_query_latency,
    memory_pressure,
)


def limits(runbook: Runbook, **thresholds: float) -> Limits:
    return policy(runbooks=[{"name": runbook.name, "thresholds": thresholds}]).limits(runbook, SCRAPE)


@pytest.mark.parametrize(
    ("runbook", "threshold", "default", "reason"),
    [
        (chroma_unreachable.RUNBOOK, "escalateMinutes", 15, "DownTooLong"),
        (high_query_latency.RUNBOOK, "escalateMinutes", 30, "NotMitigated"),
        (embedding_model_failure.RUNBOOK, "escalateMinutes", 30, "NotLoaded"),
        (memory_pressure.RUNBOOK, "unexplainedMinutes", 120, "CauseUnknown"),
    ],
)
def test_how_long_it_may_last(runbook: Runbook, threshold: str, default: int, reason: str) -> None:
    def called(lasted: int, within: Limits) -> str | None:
        begun = NOW - minutes(lasted)
        found = runbook.escalate(facts(), incident(detected_at=begun, opened_at=begun), within)
        return found.reason if found else None

    assert [called(lasted, limits(runbook)) for lasted in (default, default + 1)] == [None, reason]
    assert [called(lasted, limits(runbook, **{threshold: 5})) for lasted in (5, 6)] == [None, reason]


@pytest.mark.parametrize(("thresholds", "ratio"), [({}, 0.05), ({"fallbackErrorPercent": 1.0}, 0.01)])
def test_how_many_answers_may_fail_without_chroma(thresholds: dict[str, float], ratio: float) -> None:
    within = limits(chroma_unreachable.RUNBOOK, **thresholds)
    calm = facts(error_ratio=Known(ratio, NOW))
    failing = replace(calm, error_ratio=Known(ratio + 0.001, NOW))
    assert chroma_unreachable.RUNBOOK.escalate(calm, incident(), within) is None
    found = chroma_unreachable.RUNBOOK.escalate(failing, incident(), within)
    assert found is not None
    assert found.reason == "KeywordSearchFailing"
