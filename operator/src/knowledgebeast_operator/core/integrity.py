"""What is known about the database's integrity, the operator's own tasks included. Pure.

A check's verdict counts until a later one, or until a repair that ended well: such a task checks its work itself.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Final

from knowledgebeast_operator.core.actions import RunFencedTask, RunTask, Target
from knowledgebeast_operator.core.facts import Facts, Known, Unknown
from knowledgebeast_operator.core.ledger import Attempt, Journal
from knowledgebeast_operator.core.protection import Damage, IntegrityCheck
from knowledgebeast_operator.core.runbook import Applicable, Pause
from knowledgebeast_operator.custom_resource.names import DATABASE

CHECK: Final = "check"
REINDEX: Final = "reindex"
RESTORE: Final = "restore"

REPAIRS: Final = frozenset({REINDEX, RESTORE})
NOTHING_TO_REPAIR: Final = "NothingToRepair"
"""A repair refuses what it finds whole; it has looked at all of it."""


def informed(facts: Facts, journal: Journal) -> Facts:
    """The facts with all verdicts, the newest as the one that counts, whoever asked for it."""
    own = [check for attempt in journal.attempts if (check := _verdict(attempt)) is not None]
    known = [facts.integrity.value] if isinstance(facts.integrity, Known) else []
    checks = tuple(sorted((*own, *known), key=lambda check: check.at))
    return replace(facts, checks=checks, integrity=Known(checks[-1], checks[-1].at)) if checks else facts


def tasks_since(journal: Journal, task: str, moment: datetime) -> tuple[Attempt, ...]:
    """Attempts at a task that said something, begun after `moment`; oldest first."""
    return tuple(
        attempt
        for attempt in journal.attempts
        if task_of(attempt) == task and attempt.report is not None and attempt.started > moment
    )


def times_in_a_row(checks: Iterable[IntegrityCheck], damage: Damage) -> int:
    """How many of the last checks agree on this damage; each Job counts once."""
    by_time = sorted({check.attempt: check for check in checks}.values(), key=lambda check: check.at, reverse=True)
    count = 0
    for check in by_time:
        if check.damage is not damage:
            break
        count += 1
    return count


def database_task(
    facts: Facts,
    kind: type[RunTask] | type[RunFencedTask],
    task: str,
    arguments: tuple[str, ...] = (),
    *,
    needs_approval: str | None = None,
) -> Applicable | Pause:
    """A task on the claim of the database, once that is known."""
    if isinstance(facts.volumes, Unknown):
        return Pause(facts.volumes.reason, facts.volumes.message, facts.scrape_interval)
    volume = facts.volumes.value.get(DATABASE)
    if volume is None:
        return Pause("ClaimMissing", "The database has no claim yet.", facts.scrape_interval)
    target = Target(kind="PersistentVolumeClaim", name=volume.claim, uid=volume.uid)
    return Applicable(kind(target=target, task=task, arguments=arguments), needs_approval)


def task_of(attempt: Attempt) -> str | None:
    """The maintenance task of an attempt; None for other actions."""
    return attempt.action.task if isinstance(attempt.action, RunTask | RunFencedTask) else None


def _verdict(attempt: Attempt) -> IntegrityCheck | None:
    report, task = attempt.report, task_of(attempt)
    if report is None or not report.has_result or attempt.acted is None:
        return None
    if task == CHECK and report.values.get("damage", "") in {str(damage) for damage in Damage}:
        damage = Damage(report.values["damage"])
    elif task in REPAIRS and (report.ok or report.reason == NOTHING_TO_REPAIR):
        damage = Damage.NONE
    else:
        return None
    seq = report.figures.get("seq")
    return IntegrityCheck(damage, report.notes, int(seq) if seq is not None else None, attempt.acted, attempt.id)
