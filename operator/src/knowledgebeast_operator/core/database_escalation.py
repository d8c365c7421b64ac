"""When a human is needed for a damaged database: the runbook's "Escalation Criteria" of incident 8. Pure."""

from datetime import timedelta
from typing import Final

from knowledgebeast_operator.core.facts import Facts
from knowledgebeast_operator.core.integrity import RESTORE, task_of
from knowledgebeast_operator.core.ledger import Escalation, IncidentRecord, Level, TaskReport
from knowledgebeast_operator.core.objectives import RPO, RTO
from knowledgebeast_operator.core.protection import Damage
from knowledgebeast_operator.core.runbook import Limits, Threshold
from knowledgebeast_operator.custom_resource import format_duration

NOTHING_TO_RESTORE: Final = frozenset({"NoVerifiedBackup", "UnknownBackup", "WrongVolume"})
"""Refusals of a restore that another try would only repeat."""

HELD_UP: Final = frozenset({"NodeLost", "WritersPresent", "DiskFull"})
"""What a person has to see to; the operator tries again meanwhile, as often as it may."""

CHECKS_IN_VAIN: Final = 3

THRESHOLDS: Final = {
    "lossPercent": Threshold(10, 0, 100, "%", "Share of the documents of which a human is told when more are lost."),
}


def last_refusal(incident: IncidentRecord) -> TaskReport | None:
    """Why the last task found nothing to restore; None when it was no such refusal."""
    reports = [attempt.report for attempt in incident.attempts if attempt.report is not None]
    return reports[-1] if reports and reports[-1].reason in NOTHING_TO_RESTORE else None


def escalate(facts: Facts, incident: IncidentRecord, limits: Limits) -> Escalation | None:
    """The runbook's "Escalation Criteria"."""
    reports = [attempt.report for attempt in incident.attempts if attempt.report is not None]
    last = reports[-1] if reports else None
    lasted = facts.now - incident.detected_at

    def tell(reason: str, message: str, next_step: str) -> Escalation:
        return Escalation(at=facts.now, reason=reason, message=message, next_step=next_step)

    refusal = last_refusal(incident)
    if refusal is not None:
        return tell(
            "RestoreBlocked",
            f"No backup can be restored, and nothing was changed. {refusal.message}",
            "Bring a good backup to the backup volume, then ask for option 8B with an Incident of trigger Manual. The "
            "damaged database is as it was.",
        )
    if last is not None and last.reason in HELD_UP:
        return tell(last.reason, last.message, "The operator tries again, three times in all; nothing was changed.")
    harm = harmed(facts, incident, limits)
    if harm is not None:
        return harm
    if lasted > RTO:
        return tell(
            "RtoExceeded",
            f"The incident has lasted {format_duration(lasted)}, more than {format_duration(RTO)}.",
            "Look at the attempts and their reports; the operator goes on with those that are left.",
        )
    useless = [r for r in reports if r.values.get("damage") == Damage.NONE]
    if len(useless) >= CHECKS_IN_VAIN:
        return tell("CheckedInVain", in_vain(len(useless)), "Look for a failing disk or memory: dmesg, smartctl.")
    return None


def harmed(facts: Facts, incident: IncidentRecord, limits: Limits) -> Escalation | None:
    """What a person has to know of the data though the service answers again.

    What a restore that was refused would lose is not lost: it is asked about, and that call says how to answer.
    """
    loss = incident.data_loss
    if loss is None or not _restored(incident):
        return None

    def tell(reason: str, message: str) -> Escalation:
        """Critical data loss: the runbook's path is called up to its end."""
        step = "status.dataLoss has the bounds, and documents that can be ingested again."
        return Escalation(level=Level.CTO, at=facts.now, reason=reason, message=message, next_step=step)

    most = limits.threshold("lossPercent") / 100
    if loss.rpo_seconds is not None and loss.rpo_seconds > RPO.total_seconds():
        lost = format_duration(timedelta(seconds=int(loss.rpo_seconds)))
        message = f"{lost} of writes may be lost, more than {format_duration(RPO)}."
        return tell("RpoExceeded", message)
    if loss.documents_upper is None:
        message = f"At least {loss.documents_lower} documents are lost; nothing says how many at most."
        return tell("LossUnknown", message)
    if lost_share(incident) > most:
        message = f"Up to {loss.documents_upper} documents are lost, more than {most:.0%} of all."
        return tell("ManyDocumentsLost", message)
    return None


def lost_share(incident: IncidentRecord) -> float:
    loss, reports = incident.data_loss, _restored(incident)
    if loss is None or not reports or not loss.documents_upper:
        return 0.0
    return loss.documents_upper / (reports[-1].figures.get("documents", 0.0) + loss.documents_upper)


def _restored(incident: IncidentRecord) -> list[TaskReport]:
    """What the restores say that were carried out."""
    return [a.report for a in incident.attempts if a.report is not None and task_of(a) == RESTORE and a.report.ok]


def in_vain(count: int) -> str:
    return f"{count} checks found nothing, and the service still meets damage: the disk or the memory may be failing."
