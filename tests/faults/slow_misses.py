"""1A: the answers that the cache does not know are slow, and it is too small for the queries that come again and again.

A larger cache answers nearly all of them and interrupts nobody, so it comes before a restart of the slow Chroma (1B).
Warming (1W) does not help: nothing has emptied the cache, it is full. The pods are idle, so more of them (1C) would
only have more small caches.
"""

from collections.abc import Sequence

from harness.faults.slowness import slowed
from harness.kinds import Incident
from harness.library import Library
from harness.scenario import End, Scenario


def is_larger(library: Library, _incident: Incident | None) -> Sequence[str]:
    """By an overlay: the spec stays its owner's."""
    kinds = {overlay.kind for overlay in library.get().status.overlays}
    return () if kinds == {"cache.queryEntries"} else (f"overlays: {kinds}",)


SCENARIO = Scenario(
    title="slow misses of a cache that is too small",
    fault=slowed,
    end=End.RESOLVED,
    runbook="HighQueryLatency",
    alerts=("HighQueryLatency",),
    right=(("EnlargeQueryCache", "Successful"),),
    spec={
        # A pod grows in its first minutes. Seen through so short a window, that would fill the default limit in hours.
        "service": {"replicas": 1, "resources": {"limits": {"memory": "8Gi"}}},
        "cache": {"queryEntries": 100},
        "remediation": {
            "runbooks": [
                {
                    "name": "HighQueryLatency",
                    "window": "150s",
                    "for": "10s",
                    "settle": "5s",
                    "cooldown": "10s",
                    "healthyPeriod": "10s",
                    "verifyTimeout": "6m",
                    "thresholds": {
                        "minimumQueries": 200,
                        "escalateP99Milliseconds": 5000,
                        # Of a node that carries other tests as well.
                        "nodePercent": 100,
                    },
                }
            ]
        },
    },
    check=is_larger,
    distinct=250,
    rate=10,
    within=700,
)
