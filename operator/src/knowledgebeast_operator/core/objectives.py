"""How much a restore may lose and how long it may take (runbook, incident 8), and whether it kept to that. Pure."""

from datetime import timedelta
from typing import Final

from knowledgebeast_operator.core.ledger import DataLoss, TargetVerdict

RPO: Final = timedelta(hours=1)
RTO: Final = timedelta(hours=4)


def judged(loss: DataLoss) -> DataLoss:
    """The loss with the targets beside what was measured, and a verdict on each."""
    rpo, rto = RPO.total_seconds(), RTO.total_seconds()
    return loss.model_copy(
        update={
            "rpo_target_seconds": rpo,
            "rpo_verdict": _verdict(loss.rpo_seconds, rpo),
            "rto_target_seconds": rto,
            "rto_verdict": _verdict(loss.rto_seconds, rto),
        }
    )


def _verdict(measured: float | None, target: float) -> TargetVerdict:
    if measured is None:
        return TargetVerdict.UNKNOWN
    return TargetVerdict.WITHIN if measured <= target else TargetVerdict.EXCEEDED
