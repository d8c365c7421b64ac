"""Facts about synthetic queries: every ten seconds one of each service pod, good until some time ago and bad since."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta

from kb_facts import NOW, SCRAPE, minutes, per_pod
from knowledgebeast_operator.core.facts import Fact, PerPod, Sample, Series
from knowledgebeast_operator.core.probes import PROBE_DURATION, PROBE_SUCCESS, PROBE_TIMESTAMP

PODS = ("demo-a", "demo-b")
GOOD_SECONDS = 0.05
WINDOW = minutes(5)


def probed(
    *,
    bad_for: timedelta | None = None,
    took: float = GOOD_SECONDS,
    is_answered: bool = True,
    pods: Iterable[str] = PODS,
    every: timedelta = SCRAPE,
) -> Mapping[str, Fact[PerPod]]:
    """The series of these pods. From `bad_for` ago on, probes took so long and were answered or not."""

    def is_bad(at: datetime) -> bool:
        return bad_for is not None and at > NOW - bad_for

    def ended(at: datetime) -> float:
        step = every.total_seconds()
        return at.timestamp() // step * step - 1

    def series(value: Callable[[datetime], float]) -> Series:
        times = [NOW - SCRAPE * back for back in range(int(WINDOW / SCRAPE), -1, -1)]
        return tuple(Sample(at, value(at)) for at in times)

    names = tuple(pods)
    made = {
        PROBE_SUCCESS: series(lambda at: float(is_answered or not is_bad(at))),
        PROBE_DURATION: series(lambda at: took if is_bad(at) else GOOD_SECONDS),
        PROBE_TIMESTAMP: series(ended),
    }
    return {name: per_pod(one, names) for name, one in made.items()}
