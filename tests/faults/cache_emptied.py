"""7C: somebody restarts the service, and the new pod's caches are empty. The most asked queries are asked again.

The cache is large enough for all of them, so that a larger one (7A) would be as empty, and none is pushed out.
"""

import contextlib
from collections.abc import Generator, Sequence

from harness.faults.caches import Caches
from harness.kinds import Incident
from harness.library import CALM, Library
from harness.scenario import End, Scenario

DISTINCT = 800
FEWEST_BROUGHT = 50

WATCHED = {
    "name": "CacheHitRatioDrop",
    "window": "60s",
    "for": "10s",
    "settle": "5s",
    "cooldown": "60s",
    "healthyPeriod": "20s",
    "verifyTimeout": "3m",
    # The objective of the runbook: at this rate the load itself fills half of the cache within a minute.
    "thresholds": {"minimumQueries": 300, "hitRatio": 0.7, "p99CostMilliseconds": 10_000},
}


@contextlib.contextmanager
def emptied(library: Library) -> Generator[None]:
    """The caches are watched from the rollout on: while they are filled for the first time, they miss as much."""
    with Caches(library, DISTINCT).lost_by_a_rollout():
        calm = [one for one in CALM if one["name"] != WATCHED["name"]]
        library.patch({"spec": {"remediation": {"runbooks": [*calm, WATCHED]}}})
        yield


def is_warmed(library: Library, incident: Incident | None) -> Sequence[str]:
    """By queries that the cache did not have yet; no setting was changed, and nobody was called."""
    escalation = incident.status.escalation if incident is not None else None
    reports = [one.report for one in incident.status.attempts if one.report] if incident is not None else []
    brought = sum(one.figures.get("asked", 0) - one.figures.get("already_cached", 0) for one in reports)
    problems = [] if brought >= FEWEST_BROUGHT else [f"only {brought:.0f} answers were brought into the cache"]
    problems += [] if escalation is None else [f"a human was called: {escalation.reason}"]
    return problems + [f"overlay: {overlay.kind}" for overlay in library.get().status.overlays]


SCENARIO = Scenario(
    title="a restart empties the caches",
    fault=emptied,
    end=End.RESOLVED,
    runbook="CacheHitRatioDrop",
    right=(("WarmCaches", "Successful"),),
    spec={
        # A pod grows in its first minutes. Seen through so short a window, that would fill the default limit in hours.
        "service": {"replicas": 1, "resources": {"limits": {"memory": "8Gi"}}},
        "cache": {"queryEntries": 1000},
    },
    check=is_warmed,
    distinct=DISTINCT,
    rate=10,
    within=300,
)
