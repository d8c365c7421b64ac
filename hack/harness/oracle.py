"""Whether what came of a fault is what had to come of it. Pure: incidents and attempts in, sentences out."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime

from harness.kinds import Attempt, Incident
from harness.scenario import End, Scenario


def has_ended(scenario: Scenario, incidents: Sequence[Incident]) -> bool:
    """Whether it has come to the end that the scenario names."""
    incident = next((one for one in incidents if one.spec.runbook == scenario.runbook), None)
    if incident is None or (scenario.told and not _is_told(incident, scenario.told)):
        return False
    match scenario.end:
        case End.RESOLVED:
            closed = {one.spec.runbook for one in incidents if one.is_resolved}
            return closed >= {scenario.runbook, *scenario.also} and all(one.is_resolved for one in incidents)
        case End.ESCALATED:
            escalation = incident.status.escalation
            is_called = escalation is not None and escalation.reason == scenario.reason
            return is_called and not _is_acting(incidents)
        case End.LEFT_ALONE:
            return _is_told(incident, scenario.reason)
        case End.QUIET:
            return False


def _is_told(incident: Incident, reason: str) -> bool:
    return any(entry.reason == reason for entry in incident.status.timeline)


def _is_acting(incidents: Sequence[Incident]) -> bool:
    """Whether an action is under way: its outcome is judged as well. What waits for a person has not begun."""
    attempts = [attempt for one in incidents for attempt in one.status.attempts]
    return any((one.acted or one.begun) and not one.finished for one in attempts)


def judge(scenario: Scenario, incidents: Sequence[Incident], attempts: Sequence[Attempt], failed: int) -> Iterator[str]:
    """What is not as the scenario wants it: incidents, attempts, failed searches."""
    wanted = set[str]() if scenario.end is End.QUIET else {scenario.runbook, *scenario.also}
    opened = Counter(one.spec.runbook for one in incidents if one.spec.runbook not in scenario.symptoms)
    if opened != Counter(wanted):
        yield f"incidents {dict(opened)}, expected one each of {sorted(wanted)}"
    done = tuple((one.option, one.outcome or "") for one in attempts if one.outcome != "Blocked")
    is_right = sorted(done) == sorted(scenario.right) if scenario.also else done == scenario.right
    if not is_right:
        yield f"attempts {done}, expected {scenario.right}"
    yield from _symptoms(scenario, incidents)
    if failed > scenario.may_fail:
        yield f"{failed} searches failed, at most {scenario.may_fail} may"


def _symptoms(scenario: Scenario, incidents: Sequence[Incident]) -> Iterator[str]:
    """What is not so about incidents that another one explains."""
    by_name = {one.name: one.spec.runbook for one in incidents}
    for one in incidents:
        wanted = scenario.caused_by.get(one.spec.runbook)
        if wanted is None:
            continue
        found = by_name.get(one.status.caused_by or "")
        if found != wanted:
            yield f"{one.name} is caused by {one.status.caused_by}, expected an incident of {wanted}"
        if one.status.attempts:
            yield f"{one.name} has attempts, and only its cause should"


def wrong_actions(scenario: Scenario, attempts: Sequence[Attempt]) -> Iterator[str]:
    """Actions that were carried out and should not have been; a task that refused has changed nothing."""
    right = {option for option, _ in scenario.right}
    yield from (one.option for one in attempts if one.acted and one.outcome != "Blocked" and one.option not in right)


def mitigated_at(attempts: Sequence[Attempt]) -> datetime | None:
    """When the last cure had helped: of two faults the second counts."""
    return max((one.finished for one in attempts if one.outcome == "Successful" and one.finished), default=None)


def closed_at(scenario: Scenario, incidents: Sequence[Incident]) -> datetime | None:
    """When the last of the incidents that had to open was closed; None while one is open."""
    moments = [one.status.resolved_at for one in incidents if one.spec.runbook in (scenario.runbook, *scenario.also)]
    return None if None in moments else max((moment for moment in moments if moment), default=None)
