"""Incident 8: Database Corruption (P0).

Signal
    An integrity check (every 30 min, or one asked for) reports damage; or a service pod meets `malformed`
    (kb_database_errors_total{kind="corrupt"} rises), or cannot read the database at all. What a pod meets opens the
    incident at once; what is done about it waits for a check of the whole file. Row counts alone are no damage: a bulk
    delete is in the change log. An empty new volume or a wrong mount is not damage either.

Diagnosis
    `knowledgebeast maintain check`: only indexes, pages, a file that is missing, empty or no database (found twice in a
    row), another schema, another volume.

Options
    8E CheckIntegrity (ours): the check, beside the service. 8A ReindexDatabase: for indexes out of step; behind the
    fence, with the damaged file kept aside. 8B RestoreDatabase: for everything worse, or when 8A did not cure; behind
    the fence: newest backup that passes every check, salvage and merge of what is newer (8C), loss statement (8D).
    Never for a wrong volume or another schema, never without a verified backup, and only with an approval when more
    than an hour of writes is expected to be lost.

Verify
    The task's own check of the whole file is good; then service pods are ready, read the database for three samples
    without an error, and answer queries.

Escalate
    No backup passes, a lost node or a pod that does not end keeps the database open, more than 10 % of the documents
    lost or nobody knows how many, more than an hour of writes lost (RPO), more than four hours (RTO), errors that
    three checks cannot explain. What is lost is told also when the service answers again.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from knowledgebeast_operator.core.actions import RunFencedTask, RunTask
from knowledgebeast_operator.core.database_escalation import (
    CHECKS_IN_VAIN,
    NOTHING_TO_RESTORE,
    THRESHOLDS,
    escalate,
    harmed,
    in_vain,
)
from knowledgebeast_operator.core.database_recovery import indicators, verify_repair
from knowledgebeast_operator.core.database_views import ERRORS, UP, DatabaseView, view
from knowledgebeast_operator.core.facts import Facts, Known
from knowledgebeast_operator.core.integrity import (
    CHECK,
    REINDEX,
    RESTORE,
    database_task,
    task_of,
    tasks_since,
    times_in_a_row,
)
from knowledgebeast_operator.core.ledger import (
    Evidence,
    Journal,
    Severity,
    TaskReport,
)
from knowledgebeast_operator.core.objectives import RTO
from knowledgebeast_operator.core.protection import Damage, IntegrityCheck
from knowledgebeast_operator.core.runbook import (
    Applicable,
    Detected,
    Diagnosis,
    Limits,
    NotApplicable,
    NotDetected,
    Option,
    Pause,
    Runbook,
    Undetermined,
)
from knowledgebeast_operator.custom_resource.names import DATABASE

REPORTED: Final = "CorruptionReported"
"""A pod met damage and no check has looked since."""

REASONS: Final = {
    Damage.INDEX: "IndexDamaged",
    Damage.PAGES: "PagesDamaged",
    Damage.MISSING: "DatabaseMissing",
    Damage.EMPTY: "DatabaseEmpty",
    Damage.NOT_A_DATABASE: "NotADatabase",
    Damage.SCHEMA: "SchemaDiffers",
    Damage.WRONG_VOLUME: "WrongVolume",
}

FOUND_TWICE: Final = frozenset({Damage.MISSING, Damage.EMPTY, Damage.NOT_A_DATABASE})
"""A mount that has not settled looks the same for a moment."""

RESTORABLE: Final = FOUND_TWICE | {Damage.PAGES}
ERROR_RATIO: Final = "http_requests_total"
APPROVE_LOSS: Final = "--approve-loss"
ONLY_BACKUP: Final = "--only-backup"
LATEST: Final = "latest"
LOSS_TOO_HIGH: Final = "ExpectedLossTooHigh"


RECENTLY: Final = timedelta(hours=1)


def diagnose(facts: Facts, limits: Limits) -> Diagnosis:
    """Bad when the last check says so, or a pod has met damage since; good when neither; otherwise unknown."""
    seen = view(facts)
    checked = facts.integrity.value if isinstance(facts.integrity, Known) else None
    unanswered = seen.since(checked.at if checked is not None else None)
    if checked is not None and checked.damage is not Damage.NONE:
        return _damaged(checked, facts)
    if unanswered:
        return _reported(seen, unanswered[0].first, facts, is_event=any(item.is_event for item in unanswered))
    if seen.silent:
        return Undetermined(seen.silent)
    held = seen.held if checked is None else max(seen.held, min(limits.window, facts.now - checked.at))
    verdict = "has not been checked yet" if checked is None else f"passed its check at {checked.at:%H:%M:%S %Z}"
    return NotDetected("DatabaseWhole", f"The database {verdict}, and no pod has met damage since.", held)


def consider_check(
    facts: Facts, detected: Detected, journal: Journal, limits: Limits
) -> Applicable | NotApplicable | Pause:
    """8E: before anything is repaired, and a second time where the file is not there as it should be."""
    checked = facts.integrity.value if isinstance(facts.integrity, Known) else None
    recent = tasks_since(journal, CHECK, facts.now - RECENTLY)
    if detected.reason == REPORTED and len(recent) >= CHECKS_IN_VAIN and checked and checked.damage is Damage.NONE:
        return NotApplicable("CheckedInVain", in_vain(len(recent)))
    if checked is None or detected.reason == REPORTED or _is_seen_once(facts, checked):
        return database_task(facts, RunTask, CHECK)
    return NotApplicable("Checked", f"The database was checked at {checked.at:%H:%M:%S %Z}: {checked.damage}.")


def consider_reindex(
    facts: Facts, detected: Detected, journal: Journal, limits: Limits
) -> Applicable | NotApplicable | Pause:
    """8A: for indexes alone, once."""
    checked = facts.integrity.value if isinstance(facts.integrity, Known) else None
    if detected.reason == REPORTED or checked is None or checked.damage is not Damage.INDEX:
        return NotApplicable("NotOnlyIndexes", "REINDEX (8A) helps where only indexes are damaged.")
    if tasks_since(journal, REINDEX, facts.now - RECENTLY):
        return NotApplicable("AlreadyTried", "REINDEX (8A) did not cure it.")
    return database_task(facts, RunFencedTask, REINDEX)


def consider_restore(
    facts: Facts, detected: Detected, journal: Journal, limits: Limits
) -> Applicable | NotApplicable | Pause:
    """8B: for damage that a check has found, with a backup that passes every check."""
    checked = facts.integrity.value if isinstance(facts.integrity, Known) else None
    if detected.reason == REPORTED or checked is None:
        return NotApplicable("NotChecked", "Nothing is restored before a check of the whole database.")
    if checked.damage is Damage.WRONG_VOLUME:
        return NotApplicable(
            "WrongVolume",
            "The volume is not the one that this object's database was on, so nothing is restored onto it. Mount the "
            "right one, adopt this one (docs/restore.md), or make a new object with spec.bootstrap.restoreFrom.",
        )
    if checked.damage is Damage.SCHEMA:
        return NotApplicable(
            "SchemaDiffers",
            "The file is a database with another schema: put back the image that made it, or, if it is a foreign file, "
            "ask for a restore by hand (an Incident with trigger Manual, option 8B).",
        )
    is_cured_by_index = checked.damage is Damage.INDEX and not tasks_since(journal, REINDEX, facts.now - RECENTLY)
    if is_cured_by_index or _is_seen_once(facts, checked):
        return NotApplicable("NotYet", "Something milder comes first.")
    refused = _refusal(facts, journal, checked)
    if refused is not None and refused.reason in NOTHING_TO_RESTORE:
        return NotApplicable(
            "RestoreBlocked",
            f"Nothing was changed. {refused.message} Bring a good backup to the backup volume (`knowledgebeast "
            "maintain backups` lists them with their verdicts), then ask for 8B by hand.",
        )
    if refused is not None and refused.reason == LOSS_TOO_HIGH:
        return database_task(facts, RunFencedTask, RESTORE, (APPROVE_LOSS,), needs_approval=refused.message)
    return database_task(facts, RunFencedTask, RESTORE)


def check_by_hand(facts: Facts, parameters: Mapping[str, str]) -> Applicable | NotApplicable:
    return _asked(database_task(facts, RunTask, CHECK))


def reindex_by_hand(facts: Facts, parameters: Mapping[str, str]) -> Applicable | NotApplicable:
    return _asked(database_task(facts, RunFencedTask, REINDEX))


def restore_by_hand(facts: Facts, parameters: Mapping[str, str]) -> Applicable | NotApplicable:
    """To the backup that is named, or the newest good one; always with an approval, and that covers the loss."""
    backup, drops = parameters.get("backup"), parameters.get("newerChanges") == "Drop"
    which = f"backup {backup}" if backup else "the newest backup that passes every check"
    newer = "what was written since is dropped" if drops else "what can be read of what was written since is kept"
    arguments = ("--backup", backup or LATEST, *((ONLY_BACKUP,) if drops else ()), APPROVE_LOSS)
    reason = f"The database is replaced by {which}; {newer}."
    return _asked(database_task(facts, RunFencedTask, RESTORE, arguments, needs_approval=reason))


def _damaged(checked: IntegrityCheck, facts: Facts) -> Detected:
    problems = "; ".join(checked.problems) or "no details"
    value = f"{checked.damage}: {problems}"[:256]
    return Detected(
        REASONS[checked.damage],
        f"The check at {checked.at:%H:%M:%S %Z} found {checked.damage}: {problems}",
        max(facts.now - checked.at, timedelta(0)),
        (Evidence(signal="integrity_check", value=value, threshold="none", at=checked.at),),
        outlasts_own_work=True,
        is_event=True,
    )


def _reported(seen: DatabaseView, first: datetime, facts: Facts, *, is_event: bool) -> Detected:
    told = ", ".join(f"{item.signal}{item.value}" for item in seen.suspicions)
    return Detected(
        REPORTED,
        f"The service met a damaged database: {told}. A check of the whole file decides what is done.",
        facts.now - first,
        tuple(
            Evidence(signal=item.signal, value=item.value[:256], threshold="none", at=item.last)
            for item in seen.suspicions
        ),
        outlasts_own_work=True,
        is_event=is_event,
    )


def _asked(found: Applicable | Pause) -> Applicable | NotApplicable:
    return found if isinstance(found, Applicable) else NotApplicable(found.reason, found.message)


def _is_seen_once(facts: Facts, checked: IntegrityCheck) -> bool:
    return checked.damage in FOUND_TWICE and times_in_a_row(facts.checks, checked.damage) < 2


def _refusal(facts: Facts, journal: Journal, checked: IntegrityCheck) -> TaskReport | None:
    """Why the last restore for this damage was refused, unless there is a newer backup by now."""
    tried = [attempt for attempt in journal.attempts if task_of(attempt) == RESTORE and attempt.report is not None]
    last = tried[-1] if tried else None
    if last is None or last.report is None or not last.report.refused or last.started < facts.now - RTO:
        return None
    backup = facts.protection.backup
    has_newer = isinstance(backup, Known) and backup.at > last.started
    return None if has_newer and last.report.reason in NOTHING_TO_RESTORE else last.report


RUNBOOK: Final = Runbook(
    name="DatabaseCorruption",
    number=8,
    title="Database Corruption",
    severity=Severity.P0,
    limits=Limits(
        max_attempts=3,
        cooldown=timedelta(minutes=5),
        healthy_period=timedelta(minutes=2),
        window=timedelta(minutes=2),
        hold=timedelta(seconds=10),
        settle=timedelta(seconds=2),
        verify_timeout=timedelta(minutes=5),
    ),
    diagnose=diagnose,
    options=(
        Option(
            code="8E",
            name="CheckIntegrity",
            consider=consider_check,
            verify=verify_repair,
            is_disruptive=False,
            is_remedy=False,
            by_hand=check_by_hand,
        ),
        Option(
            code="8A",
            name="ReindexDatabase",
            consider=consider_reindex,
            verify=verify_repair,
            by_hand=reindex_by_hand,
        ),
        Option(
            code="8B",
            name="RestoreDatabase",
            consider=consider_restore,
            verify=verify_repair,
            by_hand=restore_by_hand,
        ),
    ),
    slis=indicators,
    escalate=escalate,
    harmed=harmed,
    signals=(ERRORS, UP, ERROR_RATIO),
    component=DATABASE,
    thresholds=THRESHOLDS,
)
