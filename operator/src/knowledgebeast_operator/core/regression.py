"""The no-regression rule: which indicators are worse after an action than before it (runbook map, "No regression")."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from knowledgebeast_operator.core.ledger import Attempt, Outcome, Sli


class Better(StrEnum):
    """Which direction of an indicator is good."""

    HIGHER = "Higher"
    LOWER = "Lower"


@dataclass(frozen=True, slots=True)
class Scale:
    """How an indicator is compared. A change below `noise` (in its unit) is none, however large its share is.

    One that is the share of a random `sample` also differs from itself: by two standard deviations of the difference.
    """

    better: Better
    noise: float
    sample: int | None = None

    def noise_at(self, value: float) -> float:
        """The largest change from `value` that is none."""
        if self.sample is None:
            return self.noise
        return max(self.noise, 2 * math.sqrt(2 * value * (1 - value) / self.sample))


SCALES: Final = {
    "chroma_available": Scale(Better.HIGHER, noise=0.05, sample=20),  # canaries
    "breaker_state": Scale(Better.LOWER, noise=1.0),  # half-open while it probes, open again: both are not closed
    "embedding_available": Scale(Better.HIGHER, noise=0.0),  # share of pods that have their model
    "database_up": Scale(Better.HIGHER, noise=0.0),  # 0 or 1
    "slow_ratio": Scale(Better.LOWER, noise=0.01),  # P99: a hundredth of the answers is the runbook's limit
    "query_cache_hit_ratio": Scale(Better.HIGHER, noise=0.05),  # moves with what people ask
    "model_call_ratio": Scale(Better.LOWER, noise=0.05),
    "memory_share": Scale(Better.LOWER, noise=0.05),  # of the limit: what one request may take
    "disk_free_ratio": Scale(Better.HIGHER, noise=1.0),  # who fills a volume while it is cleaned is not the cleaning
    "error_ratio": Scale(Better.LOWER, noise=0.01),  # the runbook's limit for 5xx answers
}

TOLERANCE: Final = 0.10
"""An indicator may be this share worse than before."""


def worsened(before: Iterable[Sli], after: Iterable[Sli]) -> tuple[tuple[Sli, Sli], ...]:
    """Indicators that were measured both times and are worse by more than the tolerance, as (before, after)."""
    values = {sli.name: sli for sli in before}
    return tuple(
        (values[sli.name], sli) for sli in after if sli.name in values and _is_worse(values[sli.name].value, sli)
    )


def made_worse(attempt: Attempt) -> bool:
    """Whether an attempt that ended badly left an indicator worse than it had found it."""
    return attempt.outcome in (Outcome.FAILED, Outcome.UNDONE) and bool(worsened(attempt.before, attempt.after))


def _is_worse(before: float, after: Sli) -> bool:
    scale = SCALES[after.name]
    loss = before - after.value if scale.better is Better.HIGHER else after.value - before
    return loss > max(scale.noise_at(before), TOLERANCE * abs(before))
