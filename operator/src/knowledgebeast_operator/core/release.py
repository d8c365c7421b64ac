"""Which overlays have come to their end, and why. Pure."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final

from knowledgebeast_operator.core.actions import SetFields
from knowledgebeast_operator.core.facts import Facts
from knowledgebeast_operator.core.ledger import Attempt, IncidentRecord, Outcome
from knowledgebeast_operator.core.overlays import FieldOverlay, Overlays
from knowledgebeast_operator.core.policy import Policy
from knowledgebeast_operator.core.runbook import Mode, Runbook

SPEC_CHANGED: Final = "the field was changed in the spec"

A_DAY: Final = timedelta(days=1)

LONGEST: Final = 7
"""The most that a field stays, in units of the runbook's back-off; a day at least. Earlier ends count for so often that
time: if they counted for less, a long stay would make them forgotten."""


def ended(
    stored: Overlays, facts: Facts, runbooks: Iterable[Runbook], policy: Policy, incidents: Collection[IncidentRecord]
) -> Mapping[str, str]:
    """Why they end, by path. What is no longer in force goes at once, the rest only while the operator may act.

    Args:
        stored: all overlays that there are; `facts.overlays` are those in force.
        facts: what is known.
        runbooks: who put them.
        policy: what the owner allows.
        incidents: of the object; a runbook with an open one still needs what it has put.
    """
    reasons = {path: SPEC_CHANGED for path in stored.fields if path not in facts.overlays.fields}
    if policy.mode is not Mode.ENFORCE or policy.pause_at(facts.now) is not None:
        return reasons
    busy = {record.runbook for record in incidents if record.is_open}
    by_name = {runbook.name: runbook for runbook in runbooks if runbook.name not in busy}
    for path, overlay in facts.overlays.fields.items():
        runbook = by_name.get(overlay.runbook)
        if runbook is not None and facts.now < _doubted_until(path, overlay, runbook, incidents):
            continue
        reason = _released(facts, path, overlay, runbook, policy)
        if reason is not None:
            reasons[path] = reason
    return reasons


def _doubted_until(path: str, overlay: FieldOverlay, runbook: Runbook, incidents: Iterable[IncidentRecord]) -> datetime:
    """When it may end at the earliest: what ended before and had to be put again ended too early.

    Steps of one incident, such as one pod more and then another, say nothing of that: no overlay ends while it is open.
    """
    if runbook.release_backoff is None:
        return overlay.at
    longest = max(A_DAY, LONGEST * runbook.release_backoff)
    again = sum(
        _has_put(path, attempt) and overlay.at - LONGEST * longest <= attempt.started < overlay.at
        for record in incidents
        if record.runbook == runbook.name and record.name != overlay.incident
        for attempt in record.attempts
    )
    return overlay.at + min(runbook.release_backoff * 2 ** (again - 1), longest) if again else overlay.at


def _has_put(path: str, attempt: Attempt) -> bool:
    is_kept = attempt.outcome is Outcome.SUCCESSFUL
    return is_kept and isinstance(attempt.action, SetFields) and path in attempt.action.fields


def _released(facts: Facts, path: str, overlay: FieldOverlay, runbook: Runbook | None, policy: Policy) -> str | None:
    if runbook is None or runbook.release is None:
        return None
    return runbook.release(facts, path, overlay, policy.limits(runbook, facts.scrape_interval))
