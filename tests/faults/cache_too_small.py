"""7A: 250 queries come again and again, and the cache holds 100 of them. The next step of its size holds them all.

Nothing has emptied the cache, so warming it (7C) would push out one answer for each that it brings. The queries repeat,
so it is not their diversity (7D) either.
"""

import contextlib
from collections.abc import Sequence

from harness.kinds import Incident
from harness.library import Library
from harness.scenario import End, Scenario


def is_larger(library: Library, _incident: Incident | None) -> Sequence[str]:
    """By an overlay: the spec stays its owner's."""
    kinds = {overlay.kind for overlay in library.get().status.overlays}
    return () if kinds == {"cache.queryEntries"} else (f"overlays: {kinds}",)


SCENARIO = Scenario(
    title="the query cache is too small",
    fault=lambda _library: contextlib.nullcontext(),
    end=End.RESOLVED,
    runbook="CacheHitRatioDrop",
    alerts=("CacheHitRatioDrop",),
    right=(("EnlargeCaches", "Successful"),),
    spec={
        # A pod grows in its first minutes. Seen through so short a window, that would fill the default limit in hours.
        "service": {"replicas": 1, "resources": {"limits": {"memory": "8Gi"}}},
        "cache": {"queryEntries": 100},
        "remediation": {
            "runbooks": [
                {
                    "name": "CacheHitRatioDrop",
                    "window": "60s",
                    "for": "20s",
                    "settle": "5s",
                    "cooldown": "60s",
                    "healthyPeriod": "20s",
                    "verifyTimeout": "3m",
                    # Three quarters of a minute at this rate: until then the cache fills, and nothing is pushed out.
                    "thresholds": {"minimumQueries": 800, "p99CostMilliseconds": 10_000},
                }
            ]
        },
    },
    check=is_larger,
    distinct=250,
    rate=15,
)
