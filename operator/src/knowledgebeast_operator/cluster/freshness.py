"""Whether a watch still tells the truth. kopf can lose a watch for ever and go on as if nothing were the matter.

Every so often the versions that a watch has shown are compared with a live list. A difference is normal for a moment
(an event is under way); a difference with nothing new from the watch meanwhile is a silent watch, whose age is counted.
"""

from dataclasses import dataclass
from typing import TypeAlias

Versions: TypeAlias = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A difference that was seen at this monotonic time, when the watch showed these versions."""

    since: float
    shown: Versions


def judge(previous: Suspicion | None, shown: Versions, live: Versions, now: float) -> Suspicion | None:
    """The suspicion after one comparison; None when the watch agrees with the live list.

    Args:
        previous: what the comparison before this one said.
        shown: what the watch has shown, read after the live list was answered.
        live: what the API server said.
        now: monotonic seconds.
    """
    if shown == live:
        return None
    if previous is not None and previous.shown == shown:
        return previous
    return Suspicion(now, shown)


def staleness_seconds(suspicion: Suspicion | None, now: float) -> float:
    """For how long a watch has been silent although there was something to say; 0 when it agrees."""
    return 0.0 if suspicion is None else max(0.0, now - suspicion.since)
