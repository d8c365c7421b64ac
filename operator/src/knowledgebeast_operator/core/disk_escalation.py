"""When a human is needed for a full volume: the runbook's "Escalation Criteria" of incident 5. Pure."""

from typing import Final

from knowledgebeast_operator.core.actions import RunTask
from knowledgebeast_operator.core.disk_views import GIGABYTE, VolumeView, low_volumes, size
from knowledgebeast_operator.core.facts import Facts, Unknown
from knowledgebeast_operator.core.ledger import Escalation, IncidentRecord
from knowledgebeast_operator.core.runbook import Limits, Threshold

WRITES_REFUSED: Final = "database_full"
THRESHOLDS: Final = {
    "escalateUsedPercent": Threshold(95, 50, 100, "%", "A volume of which more is used calls a human."),
    "recoverableGigabytes": Threshold(
        10, 0, 10_000, "GB", "Less freed by all cleanings calls a human, unless recoverablePercent asks for less."
    ),
    "recoverablePercent": Threshold(10, 0, 100, "%", "The same as a share, unless recoverableGigabytes asks for less."),
}
CLEANINGS: Final = 3


def escalate(facts: Facts, incident: IncidentRecord, limits: Limits) -> Escalation | None:
    """The runbook's "Escalation Criteria"; the operator goes on with the attempts that are left."""

    def tell(reason: str, message: str, next_step: str) -> Escalation:
        return Escalation(at=facts.now, reason=reason, message=message, next_step=next_step)

    if (count := writes_refused(facts)) > 0:
        return tell(
            "WritesFailing",
            f"{count:.0f} writes of the database failed because its volume is full.",
            "Enlarge the claim or remove something from it now: documents are refused until then. Searches go on.",
        )
    for view in low_volumes(facts, limits):
        if view.used_ratio * 100 > limits.threshold("escalateUsedPercent"):
            used = f"More than {limits.threshold('escalateUsedPercent'):g} % is used."
            return tell("AlmostFull", f"{used} {_sentence(view)}", _help(view))
        if view.volume.allows_expansion is False:
            message = f"StorageClass {view.volume.storage_class} does not allow expansion. {_sentence(view)}"
            return tell("ExpansionImpossible", message, _help(view))
        freed = _freed(view, incident)
        share = limits.threshold("recoverablePercent") / 100
        least = min(limits.threshold("recoverableGigabytes") * GIGABYTE, share * view.capacity)
        if freed is not None and freed < least:
            message = f"All that could be cleaned was {size(freed)}, less than {size(least)}. {_sentence(view)}"
            return tell("TooLittleToRecover", message, _help(view))
    return None


def writes_refused(facts: Facts) -> float:
    """Writes of the database that failed for want of space, as far as is known."""
    refused = facts.rows(WRITES_REFUSED)
    return 0.0 if isinstance(refused, Unknown) else max(0.0, sum(row.value for row in refused.value))


def _freed(view: VolumeView, incident: IncidentRecord) -> float | None:
    """By all cleanings of the volume; None before each of them has been tried."""
    done = {
        attempt.option: attempt.report.figures.get("freed_bytes", 0.0)
        for attempt in incident.attempts
        if isinstance(attempt.action, RunTask)
        and attempt.action.task == "clean"
        and attempt.action.target.uid == view.volume.uid
        and attempt.report is not None
    }
    return max(0.0, sum(done.values())) if len(done) >= CLEANINGS else None


def _sentence(view: VolumeView) -> str:
    text = view.describe()
    return f"{text[0].upper()}{text[1:]}."


def _help(view: VolumeView) -> str:
    return (
        f"Look what fills it (`kubectl exec` into a pod that has claim {view.volume.claim}, du -xh), remove what "
        "nobody needs, or enlarge the claim; `knowledgebeast maintain clean --dry-run` lists what would go by itself."
    )
