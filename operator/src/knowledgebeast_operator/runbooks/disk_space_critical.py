"""Incident 5: Disk Space Critical (P1).

Signal
    Less than 5 GB or 10 % of a volume is free, whichever is less, so that small volumes work too; or the trend of the
    last hour fills it within 24 h. The kubelet measures the claims of the database, of the backups and of Chroma.
    Missing, old or contradictory samples of a volume that is in use are unknown.

Diagnosis
    Which volume has the smallest share free, for how long, and when it will be full.

Options
    5C CleanTemporaryFiles, 5A CleanLogs, 5B CleanCopies: `knowledgebeast maintain clean` on that volume, once in six
    hours each; the newest verified backup is never removed. 5E VacuumDatabase (ours): only with room for it, inside a
    maintenance window. 5D ExpandVolume: by half, up to `maxSize`, at most once in six hours, where the StorageClass can
    expand; a volume never shrinks.

Verify
    The kubelet reports enough free space; for 5D also more capacity than before.

Escalate
    More than 95 % used, writes failing for want of space, less than 10 GB (or 10 %) recovered by all of 5C, 5A and 5B,
    or a StorageClass that cannot expand.
"""

from datetime import timedelta
from typing import Final

from knowledgebeast_operator.core.actions import RunTask, SetFields, Target
from knowledgebeast_operator.core.disk_escalation import THRESHOLDS, escalate, writes_refused
from knowledgebeast_operator.core.disk_expansion import EXPAND_AGAIN_AFTER, grown, size_path
from knowledgebeast_operator.core.disk_verdicts import verify_clean, verify_expand
from knowledgebeast_operator.core.disk_views import (
    AVAILABLE,
    CAPACITY,
    VolumeView,
    free_ratio,
    low_volumes,
    signal_of,
    size,
    view_volumes,
)
from knowledgebeast_operator.core.facts import Facts, Known, Unknown
from knowledgebeast_operator.core.journal import actions_since
from knowledgebeast_operator.core.ledger import Attempt, Evidence, Journal, Severity, Sli
from knowledgebeast_operator.core.overlays import put
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
    Threshold,
    Undetermined,
)
from knowledgebeast_operator.custom_resource.names import CHROMA, DATABASE

CLEAN: Final = "clean"
VACUUM: Final = "vacuum"
TEMPORARY, LOGS, COPIES = "temporary", "logs", "copies"
AGAIN_AFTER: Final = timedelta(hours=6)
"""What a clean removes is days old: sooner it would find nothing new."""

IN_PROGRESS: Final = "InProgress"
"""Why a task refuses that waits for another one."""

ROOM_FOR_VACUUM: Final = 2
EXPAND_ON_FORECAST_AT: Final = 0.8
"""A trend alone makes nobody pay for a larger volume that is still mostly empty."""

DATABASE_ERRORS: Final = "kb_database_errors_total"
ERRORS: Final = "http_requests_total"


def diagnose(facts: Facts, limits: Limits) -> Diagnosis:
    """Bad when one volume is known to be; good when all that are in use are measured and fine."""
    low = low_volumes(facts, limits)
    if low:
        worst = min(low, key=lambda view: view.available / view.capacity)
        return _detected("DiskSpaceLow", worst, worst.low_for or timedelta(0), "too little is free")
    views = view_volumes(facts, limits)
    if isinstance(views, Unknown):
        return Undetermined((views,))
    horizon = timedelta(hours=limits.threshold("forecastHours"))
    filling = [view for view in views if view.full_at is not None and view.full_at < facts.now + horizon]
    if filling:
        soonest = min(filling, key=lambda view: view.full_at or facts.now)
        when = f"at this rate it is full at {soonest.full_at:%Y-%m-%d %H:%M %Z}"
        return _detected("DiskFillingUp", soonest, limits.hold, when)
    fullest = min(views, key=lambda view: view.available / view.capacity)
    held = min(view.enough_for for view in views)
    return NotDetected("EnoughSpace", f"Enough is free; least on {fullest.describe()}.", held)


def grave(facts: Facts, limits: Limits) -> str | None:
    """What is not written is lost to whoever does not try again."""
    count = writes_refused(facts)
    return f"{count:.0f} writes of the database failed because its volume is full." if count else None


def consider_temporary(
    facts: Facts, detected: Detected, journal: Journal, limits: Limits
) -> Applicable | NotApplicable | Pause:
    """5C."""
    return _clean(TEMPORARY, facts, journal, limits)


def consider_logs(
    facts: Facts, detected: Detected, journal: Journal, limits: Limits
) -> Applicable | NotApplicable | Pause:
    """5A."""
    return _clean(LOGS, facts, journal, limits)


def consider_copies(
    facts: Facts, detected: Detected, journal: Journal, limits: Limits
) -> Applicable | NotApplicable | Pause:
    """5B: backups go by the retention that the object asks for, never sooner."""
    return _clean(COPIES, facts, journal, limits)


def consider_vacuum(
    facts: Facts, detected: Detected, journal: Journal, limits: Limits
) -> Applicable | NotApplicable | Pause:
    """5E: the task measures itself whether it is worth it, and refuses with the numbers."""
    view = _worst(facts, limits)
    if isinstance(view, Unknown):
        return Pause(view.reason, view.message, facts.scrape_interval)
    if view.name != DATABASE:
        return NotApplicable("NotTheDatabase", f"VACUUM (5E) gives nothing back to the volume of {view.name}.")
    action = RunTask(target=_claim(view), task=VACUUM)
    if _was_done(action, journal, facts):
        return NotApplicable("AlreadyTried", "VACUUM (5E) was tried within the last six hours.")
    backup = facts.protection.backup
    if isinstance(backup, Known) and view.available < ROOM_FOR_VACUUM * backup.value.size_bytes:
        return NotApplicable(
            "NoRoom",
            f"VACUUM (5E) needs twice the database beside it, at least {size(2 * backup.value.size_bytes)}; "
            f"{size(view.available)} are free.",
        )
    return Applicable(action)


def consider_expand(
    facts: Facts, detected: Detected, journal: Journal, limits: Limits
) -> Applicable | NotApplicable | Pause:
    """5D: a step, where the class and the object's owner allow it."""
    view = _worst(facts, limits)
    if isinstance(view, Unknown):
        return Pause(view.reason, view.message, facts.scrape_interval)
    if not view.is_low and view.used_ratio < EXPAND_ON_FORECAST_AT:
        message = f"Not enlarged on a trend alone while less than {EXPAND_ON_FORECAST_AT:.0%} is used"
        return NotApplicable("OnlyForecast", f"{message}: {view.describe()}.")
    wanted = grown(view, facts.effective_spec)
    if isinstance(wanted, NotApplicable):
        return wanted
    path = size_path(view.name)
    last = _last_step(path, facts, journal)
    if last is not None:
        return NotApplicable(
            "GrownRecently",
            f"Claim {view.volume.claim} was enlarged at {last.started:%H:%M %Z}; the next step can come at "
            f"{last.started + EXPAND_AGAIN_AFTER:%H:%M %Z}. Find out what fills it: {view.describe()}.",
        )
    action, _ = put(facts.itself, facts.overlays, {path: wanted})
    return Applicable(action)


def indicators(facts: Facts) -> tuple[Sli, ...]:
    """The smallest share that is free, and the share of failed answers."""
    known: list[Sli] = []
    share = free_ratio(facts)
    if share is not None:
        known.append(Sli(name="disk_free_ratio", value=share, unit="ratio"))
    if isinstance(facts.error_ratio, Known):
        known.append(Sli(name="error_ratio", value=facts.error_ratio.value, unit="ratio"))
    return tuple(known)


def _detected(reason: str, view: VolumeView, held: timedelta, why: str) -> Detected:
    evidence = Evidence(
        signal=signal_of(view.volume.claim),
        value=f"{size(view.available)} of {size(view.capacity)} free on claim {view.volume.claim}",
        threshold=f"at least {size(view.need)}",
        at=view.at,
    )
    message = f"{view.describe()[0].upper()}{view.describe()[1:]}; {why}."
    # No rollout explains a full disk, and a full disk may be why a rollout does not end.
    return Detected(reason, message, held, (evidence,), outlasts_own_work=True)


def _worst(facts: Facts, limits: Limits) -> VolumeView | Unknown:
    """The volume that is treated next: the one with the smallest share free, else the one that is full first."""
    low = low_volumes(facts, limits)
    if low:
        return min(low, key=lambda view: view.available / view.capacity)
    views = view_volumes(facts, limits)
    if isinstance(views, Unknown):
        return views
    filling = [view for view in views if view.full_at is not None]
    return min(filling or views, key=lambda view: (view.full_at or facts.now, view.available / view.capacity))


def _clean(kind: str, facts: Facts, journal: Journal, limits: Limits) -> Applicable | NotApplicable | Pause:
    view = _worst(facts, limits)
    if isinstance(view, Unknown):
        return Pause(view.reason, view.message, facts.scrape_interval)
    arguments = ("--only", kind)
    if kind == COPIES:
        arguments = (*arguments, *facts.spec.database.backup.retention_arguments)
    volume = CHROMA if view.name == CHROMA else DATABASE  # whose Job has the backups as well
    action = RunTask(target=_claim(view), task=CLEAN, arguments=arguments, volume=volume)
    if _was_done(action, journal, facts):
        return NotApplicable("AlreadyTried", f"The {kind} on claim {view.volume.claim} were cleaned within six hours.")
    return Applicable(action)


def _last_step(path: str, facts: Facts, journal: Journal) -> Attempt | None:
    recent = actions_since(journal, facts.now - EXPAND_AGAIN_AFTER)
    return next((a for a in recent if isinstance(a.action, SetFields) and path in a.action.fields), None)


def _was_done(action: RunTask, journal: Journal, facts: Facts) -> bool:
    """Or was refused by the task itself, which would only say the same again."""
    since = facts.now - AGAIN_AFTER
    refused = (a for a in journal.attempts if a.finished is not None and a.finished > since and _has_refused(a))
    return any(attempt.action == action for attempt in (*actions_since(journal, since), *refused))


def _has_refused(attempt: Attempt) -> bool:
    report = attempt.report
    return report is not None and report.has_result and report.refused and report.reason != IN_PROGRESS


def _claim(view: VolumeView) -> Target:
    return Target(kind="PersistentVolumeClaim", name=view.volume.claim, uid=view.volume.uid)


RUNBOOK: Final = Runbook(
    name="DiskSpaceCritical",
    number=5,
    title="Disk Space Critical",
    severity=Severity.P1,
    limits=Limits(
        max_attempts=6,
        cooldown=timedelta(seconds=30),
        healthy_period=timedelta(minutes=10),
        window=timedelta(minutes=60),
        hold=timedelta(minutes=2),
        # The kubelet measures a volume once a minute.
        settle=timedelta(seconds=75),
        verify_timeout=timedelta(minutes=3),
    ),
    diagnose=diagnose,
    options=(
        Option("5C", "CleanTemporaryFiles", consider_temporary, verify_clean, is_disruptive=False),
        Option("5A", "CleanLogs", consider_logs, verify_clean, is_disruptive=False),
        Option("5B", "CleanCopies", consider_copies, verify_clean, is_disruptive=False),
        Option("5E", "VacuumDatabase", consider_vacuum, verify_clean),
        Option("5D", "ExpandVolume", consider_expand, verify_expand, is_disruptive=False),
    ),
    slis=indicators,
    escalate=escalate,
    grave=grave,
    signals=(AVAILABLE, CAPACITY, DATABASE_ERRORS, ERRORS),
    component="database",
    thresholds={
        "freeGigabytes": Threshold(5, 0.01, 10_000, "GB", "Less is too little, unless freePercent asks for less."),
        "freePercent": Threshold(10, 1, 90, "%", "A smaller share is too little, unless freeGigabytes asks for less."),
        "forecastHours": Threshold(24, 1, 720, "h", "A volume that the last hour's trend fills sooner is filling up."),
        **THRESHOLDS,
    },
)
