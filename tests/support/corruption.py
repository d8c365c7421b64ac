"""Builders for incident 8: what checks found, tasks that ended, and the incident with them."""

from dataclasses import replace
from datetime import datetime, timedelta

from kb_facts import A_MINUTE, NOW, facts, minutes, per_pod, pod, seconds, series
from knowledgebeast_operator.core.actions import RunFencedTask, RunTask, Target
from knowledgebeast_operator.core.facts import Facts, Known
from knowledgebeast_operator.core.integrity import informed
from knowledgebeast_operator.core.ledger import (
    Attempt,
    IncidentRecord,
    Journal,
    Outcome,
    Severity,
    TaskReport,
    Trigger,
)
from knowledgebeast_operator.core.policy import Policy
from knowledgebeast_operator.core.protection import Damage, IntegrityCheck, Protection, VerifiedBackup
from knowledgebeast_operator.core.situation import Situation, assess
from knowledgebeast_operator.runbooks.database_corruption import RUNBOOK

NAME = "demo-database-corruption-0001"
CLAIM = Target(kind="PersistentVolumeClaim", name="demo-database", uid="uid-claim")
TWENTY_SECONDS, TWO_MINUTES, FIVE_MINUTES = seconds(20), minutes(2), minutes(5)
LOSS_SENTENCE = "2 hours of writes would be lost, more than 1 h."


def checked(damage: Damage | str, *, ago: timedelta = A_MINUTE, attempt: str = "demo-check-1") -> Known[IntegrityCheck]:
    """The fact `integrity`."""
    at = NOW - ago
    problems = () if damage == "none" else ("row 7 missing from index i",)
    return Known(IntegrityCheck(Damage(damage), problems, 41, at, attempt), at)


def malformed(since: timedelta = TWENTY_SECONDS, **changes: object) -> Facts:
    """One of two pods has met a damaged page."""
    errors = {
        "demo-a": series(lambda at: 3.0 if at > NOW - since else 0.0),
        "demo-b": series(0.0),
    }
    return replace(facts(database_errors=Known(errors, NOW)), **changes)  # type: ignore[arg-type]


def backup(*, ago: timedelta) -> Protection:
    at = NOW - ago
    return Protection(backup=Known(VerifiedBackup("20260107T110000Z-40", at, 40, 1000), at))


def task(
    name: str, number: int = 1, *arguments: str, ago: timedelta = FIVE_MINUTES, report: TaskReport, **changes: object
) -> Attempt:
    """A task that ended, and what it said."""
    is_check = name == "check"
    kind = RunTask if is_check else RunFencedTask
    started = NOW - ago
    answered = Outcome.DIAGNOSED if is_check else Outcome.FAILED
    whole = Attempt(
        id=f"{NAME}-{number}",
        option={"check": "CheckIntegrity", "reindex": "ReindexDatabase", "restore": "RestoreDatabase"}[name],
        action=kind(target=CLAIM, task=name, arguments=arguments),
        claimed_by="operator-a",
        started=started,
        begun=started + seconds(1),
        acted=started + seconds(20),
        finished=started + seconds(30),
        outcome=Outcome.BLOCKED if report.refused else answered,
        report=report,
        message=report.message,
    )
    return whole.model_copy(update=changes)


def found(damage: str, number: int = 1, *, ago: timedelta = FIVE_MINUTES) -> Attempt:
    """A check that ended with this verdict."""
    report = TaskReport(ok=damage == "none", values={"damage": damage}, message=f"found {damage}", notes=("a problem",))
    return task("check", number, ago=ago, report=report)


def refused(reason: str, number: int = 2, *, ago: timedelta = TWO_MINUTES) -> Attempt:
    """A restore that changed nothing."""
    report = TaskReport(ok=False, refused=True, reason=reason, message=LOSS_SENTENCE)
    return task("restore", number, ago=ago, report=report)


def incident(*attempts: Attempt, **changes: object) -> IncidentRecord:
    whole = IncidentRecord(
        name=NAME,
        runbook="DatabaseCorruption",
        number=1,
        severity=Severity.P0,
        opened_at=NOW - minutes(6),
        detected_at=NOW - minutes(6),
        attempts=attempts,
    )
    return whole.model_copy(update=changes)


def asked_for(option: str, *attempts: Attempt, **parameters: str) -> IncidentRecord:
    """An incident that a person made."""
    return incident(*attempts, trigger=Trigger.MANUAL, option=option, parameters=parameters)


def situation(
    at: Facts, record: IncidentRecord | None = None, policy: Policy | None = None, **others: object
) -> Situation:
    """With the verdicts of the incident's own tasks in the facts, as the loop has them."""
    journal = Journal(attempts=record.attempts if record is not None else ())
    return assess(
        informed(at, journal),
        RUNBOOK,
        policy or Policy(),
        incident=record,
        journal=journal,
        operator="operator-a",
        **others,  # type: ignore[arg-type]
    )


def served_again(acted: datetime) -> Facts:
    """New pods that have read the database since."""
    pods = tuple(pod(name, f"uid-{name}", created_at=acted + seconds(1)) for name in ("demo-c", "demo-d"))
    names = [item.name for item in pods]
    whole = facts(service_pods=Known(pods, NOW))
    return replace(whole, database_errors=per_pod(series(0.0), names), database_up=per_pod(series(1.0), names))
