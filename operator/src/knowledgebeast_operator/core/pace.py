"""How soon an object is looked at again. What happens to its pods or its spec wakes the loop earlier."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from knowledgebeast_operator.core.decision import Decision, Healthy


@dataclass(frozen=True, slots=True)
class Pace:
    """What one look says about the next.

    Attributes:
        is_eager: something was begun or has ended: look again at once.
        news_every: nothing is wrong and nothing is under way, and Prometheus has nothing new before this is over; None
            where something is, or is unknown.
    """

    is_eager: bool = False
    news_every: timedelta | None = None

    @classmethod
    def after(
        cls, decisions: Iterable[Decision], *, is_eager: bool, is_applied: bool, scrape_interval: timedelta
    ) -> "Pace":
        """Calm where every runbook is sure that nothing is wrong, and nothing had to be applied."""
        if is_eager:
            return cls(is_eager=True)
        is_calm = is_applied and all(isinstance(decision, Healthy) for decision in decisions)
        return cls(news_every=scrape_interval if is_calm else None)

    def seconds(self, interval: float) -> float:
        """The pause, where `interval` is the usual one: at most twice as long, so that a slow scrape delays little."""
        if self.is_eager:
            return 0.0
        if self.news_every is None:
            return interval
        return min(max(interval, self.news_every.total_seconds()), 2 * interval)
