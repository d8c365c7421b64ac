"""Guards that incident 2 is exempt from: windows and cool-downs, for an incident of lower severity."""

from dataclasses import replace
from datetime import timedelta

import pytest

from kb_facts import NOW, attempt, facts, failed, incident, minutes, policy, restart, situation
from knowledgebeast_operator.core.actions import (
    Action,
    RollingRestart,
    RunFencedTask,
    RunTask,
    SetFields,
    Target,
)
from knowledgebeast_operator.core.decide import decide
from knowledgebeast_operator.core.decision import Blocked, Open, Wait
from knowledgebeast_operator.core.facts import OwnWork
from knowledgebeast_operator.core.guards import CHAIN, SWITCHES, Objection, Proposal, first_objection
from knowledgebeast_operator.core.ledger import Journal, Outcome, Severity
from knowledgebeast_operator.core.policy import Policy
from knowledgebeast_operator.runbooks.chroma_unreachable import RUNBOOK

HIGH = incident(severity=Severity.P1)


def objection(
    *, journal: Journal | None = None, policy: Policy | None = None, disruptive: bool = True
) -> Objection | None:
    at = situation(facts(chroma_up=False), incident=HIGH, journal=journal, policy=policy)
    option = replace(RUNBOOK.options[0], is_disruptive=disruptive)
    return first_objection(Proposal(at, HIGH, option, restart()))


def windows(**changes: object) -> Policy:
    return policy(maintenanceWindows=[{"days": ["Wed"], "start": "11:00", "duration": "2h"} | changes])


def test_nothing_objects_to_a_first_attempt() -> None:
    assert objection() is None


def test_a_disruptive_option_waits_for_the_window() -> None:
    found = objection(policy=windows(days=["Sat"]))
    assert isinstance(found, Wait)
    assert (found.reason, found.until) == ("OutsideMaintenanceWindow", NOW + timedelta(days=2, hours=23))


def test_inside_the_window_it_goes_on() -> None:
    assert objection(policy=windows()) is None


def test_an_option_that_disturbs_nobody_needs_no_window() -> None:
    assert objection(policy=windows(days=["Sat"]), disruptive=False) is None


def test_an_unknown_time_zone_stops_what_depends_on_windows() -> None:
    found = objection(policy=windows(timezone="Mars/Olympus"))
    assert isinstance(found, Blocked)
    assert found.reason == "InvalidPolicy"


def test_it_cools_down_after_the_end_of_the_last_attempt() -> None:
    last = failed(ago=minutes(5), id="demo-chroma-unreachable-0009-1")  # ended 4 min ago; the cool-down is 5 min
    found = objection(journal=Journal(attempts=(last,)))
    assert isinstance(found, Wait)
    assert (found.reason, found.until) == ("CoolingDown", NOW + minutes(1))


def test_attempts_of_other_runbooks_do_not_cool_this_one_down() -> None:
    other = failed(ago=minutes(5), id="demo-other-0001-1", option="WarmCache")
    assert objection(journal=Journal(attempts=(other,))) is None


@pytest.mark.parametrize("outcome", [Outcome.DRY_RUN, Outcome.BLOCKED])
def test_what_was_not_carried_out_costs_no_budget(outcome: Outcome) -> None:
    spent = failed(ago=minutes(20), id="demo-other-0001-1", option="Other", outcome=outcome)
    assert objection(journal=Journal(attempts=(spent,)), policy=policy(budget={"maxActions": 1, "per": "1h"})) is None


def test_the_budget_says_when_it_is_free_again() -> None:
    first = failed(ago=minutes(51), id="demo-other-0001-1", option="Other")  # ended 50 min ago
    second = failed(ago=minutes(21), id="demo-other-0001-2", option="Other")
    found = objection(journal=Journal(attempts=(first, second)), policy=policy(budget={"maxActions": 2, "per": "1h"}))
    assert isinstance(found, Wait)
    assert (found.reason, found.until) == ("BudgetExhausted", NOW + minutes(10))


def test_an_attempt_in_flight_elsewhere_holds_its_target() -> None:
    found = objection(journal=Journal(attempts=(attempt(id="demo-other-0001-1", option="Other"),)))
    assert isinstance(found, Wait)
    assert found.reason == "TargetBusy"


CLEAN, VACUUM, CHECK = (
    RunTask(target=Target(kind="PersistentVolumeClaim", name="demo-database", uid="uid-claim"), task=task)
    for task in ("clean", "vacuum", "check")
)
RESTORE = RunFencedTask(target=CLEAN.target, task="restore")
ROLLING = RollingRestart(target=Target(kind="Deployment", name="demo", uid="uid-deployment"), pods=())
BACKUP = OwnWork("Backup", "maintenance", "pod demo-backup-1", NOW - minutes(14))


@pytest.mark.parametrize(
    ("action", "severity", "running", "waits"),
    [
        (restart(), Severity.P1, (BACKUP,), True),
        (ROLLING, Severity.P1, (BACKUP,), True),
        (CLEAN, Severity.P1, (BACKUP,), True),
        (VACUUM, Severity.P1, (BACKUP,), True),
        (RESTORE, Severity.P1, (BACKUP,), True),
        (CHECK, Severity.P1, (BACKUP,), False),
        (SetFields(target=CLEAN.target, fields={"service.replicas": "3"}), Severity.P1, (BACKUP,), False),
        (restart(), Severity.P1, (), False),
        (restart(), Severity.P1, (replace(BACKUP, since=NOW - minutes(15)),), False),
        (restart(), Severity.P0, (BACKUP,), False),
        (VACUUM, Severity.P0, (BACKUP,), False),
        (RESTORE, Severity.P0, (BACKUP,), True),
    ],
)
def test_what_would_disturb_a_running_backup_waits_for_it(
    action: Action, severity: Severity, running: tuple[OwnWork, ...], *, waits: bool
) -> None:
    record = incident(severity=severity)
    at = situation(facts(chroma_up=False, scheduled=running), incident=record)
    found = first_objection(Proposal(at, record, RUNBOOK.options[0], action))
    assert (found is not None) == waits
    if found is not None:
        assert isinstance(found, Wait)
        assert (found.reason, found.until) == ("ScheduledTask", NOW + minutes(1))
        assert "Backup has been running since 11:46:00 UTC (pod demo-backup-1)" in found.message


def test_a_running_backup_explains_no_outage() -> None:
    assert isinstance(decide(situation(facts(chroma_up=False, scheduled=(BACKUP,)))), Open)


def test_the_kill_switch_is_asked_first_and_harm_before_everything_else() -> None:
    assert SWITCHES[0].__name__ == "is_disabled"
    assert CHAIN[0].__name__ == "has_made_things_worse"
