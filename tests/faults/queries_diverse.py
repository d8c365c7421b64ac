"""7D, wrong-fix trap of 7A: the cache is full, pushes out all the time and hits little, for most queries are new.

A larger one would hold answers that nobody asks for again. Nothing is done, and the timeline says why. The pods and the
index have not changed within the window, so there is nothing to warm (7C) either.
"""

import contextlib
from collections.abc import Sequence

from harness.kinds import Incident
from harness.library import Library
from harness.scenario import End, Scenario


def nobody_is_called(library: Library, incident: Incident | None) -> Sequence[str]:
    """And no setting is changed."""
    escalation = incident.status.escalation if incident is not None else None
    problems = [] if escalation is None else [f"a human was called: {escalation.reason}"]
    return problems + [f"overlay: {overlay.kind}" for overlay in library.get().status.overlays]


SCENARIO = Scenario(
    title="few hits, for the queries are diverse",
    fault=lambda _library: contextlib.nullcontext(),
    end=End.LEFT_ALONE,
    runbook="CacheHitRatioDrop",
    alerts=("CacheHitRatioDrop",),
    reason="QueriesDiverse",
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
                    # The clients ask 25 % known questions, so about 77 % of the last thousand queries are distinct.
                    "thresholds": {"minimumQueries": 800, "diversity": 0.6, "p99CostMilliseconds": 10_000},
                }
            ]
        },
    },
    check=nobody_is_called,
    rate=15,
    watch=45,
)
