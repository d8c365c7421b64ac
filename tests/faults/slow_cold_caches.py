"""1W: a restart has emptied the cache, and what it does not know is slow. The most asked questions are asked again.

The cache is large enough for all of them, so that a larger one (1A) would be as empty, and none is pushed out. The pods
are idle, so more of them (1C) would only be more empty caches.

The times of the scenario count from the first filling of the cache, which takes a minute and a half before the restart.
"""

import contextlib
from collections.abc import Generator, Sequence

from harness.faults.caches import Caches
from harness.faults.slowness import slowed
from harness.kinds import Incident
from harness.library import CALM, Library
from harness.scenario import End, Scenario

DISTINCT = 900
FEWEST_BROUGHT = 100

WATCHED = {
    "name": "HighQueryLatency",
    "window": "150s",
    # Earlier, nearly all questions that the new pod has heard are distinct ones.
    "for": "40s",
    "settle": "5s",
    "cooldown": "10s",
    "healthyPeriod": "10s",
    "verifyTimeout": "5m",
    "thresholds": {
        "p99Milliseconds": 100,
        "minimumQueries": 200,
        "escalateP99Milliseconds": 5000,
        # Chroma is as slow as it is: its disk is a slow one.
        "chromaP95Milliseconds": 1000,
        # Of a node that carries other tests as well.
        "nodePercent": 100,
    },
}


@contextlib.contextmanager
def emptied(library: Library) -> Generator[None]:
    """Latency is watched from the rollout on: while the cache is filled for the first time, it misses as much."""
    with Caches(library, DISTINCT).lost_by_a_rollout(), slowed(library, stopped=0.15, running=0.1):
        calm = [one for one in CALM if one["name"] != WATCHED["name"]]
        library.patch({"spec": {"remediation": {"runbooks": [*calm, WATCHED]}}})
        yield


def is_warmed(library: Library, incident: Incident | None) -> Sequence[str]:
    """By queries that the cache did not have yet, and no setting was changed."""
    reports = [one.report for one in incident.status.attempts if one.report] if incident is not None else []
    brought = sum(one.figures.get("asked", 0) - one.figures.get("already_cached", 0) for one in reports)
    problems = [] if brought >= FEWEST_BROUGHT else [f"only {brought:.0f} answers were brought into the cache"]
    return problems + [f"overlay: {overlay.kind}" for overlay in library.get().status.overlays]


SCENARIO = Scenario(
    title="slow misses of a cache that a restart has emptied",
    fault=emptied,
    end=End.RESOLVED,
    runbook="HighQueryLatency",
    alerts=("HighQueryLatency",),
    right=(("WarmCaches", "Successful"),),
    spec={
        # A pod grows in its first minutes. Seen through so short a window, that would fill the default limit in hours.
        "service": {"replicas": 1, "resources": {"limits": {"memory": "8Gi"}}},
    },
    check=is_warmed,
    distinct=DISTINCT,
    rate=10,
    within=500,
)
