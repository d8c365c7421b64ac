"""Wrong-fix trap of 1C: the pods look busy, and more of them do not make answers faster. They are taken away again.

The limits are set so low that every answer is slow and every pod busy, whatever is done about it.
"""

import contextlib
from collections.abc import Sequence

from harness.kinds import Incident
from harness.library import Library
from harness.scenario import End, Scenario
from harness.wait import wait_for

REPLICAS = 1


def went_back(library: Library, _incident: Incident | None) -> Sequence[str]:
    """Waits until the added pod has gone."""
    wait_for("the added pod to go", lambda: len(library.service_pods()) == REPLICAS, timeout=90)
    return ()


SCENARIO = Scenario(
    title="slow, and more pods do not help",
    fault=lambda _library: contextlib.nullcontext(),
    end=End.ESCALATED,
    runbook="HighQueryLatency",
    reason="NoMorePods",
    right=(("ScaleOut", "Undone"),),
    spec={
        "service": {"replicas": REPLICAS, "maxReplicas": 3, "resources": {"limits": {"cpu": "500m"}}},
        "remediation": {
            "runbooks": [
                {
                    "name": "HighQueryLatency",
                    "window": "150s",
                    "for": "10s",
                    "settle": "5s",
                    "verifyTimeout": "150s",
                    "thresholds": {
                        "p99Milliseconds": 5,
                        "minimumQueries": 20,
                        "cpuPercent": 10,
                        "nodePercent": 100,
                        "hitRatioPercent": 0,
                        "chromaP95Milliseconds": 10000,
                        "embeddingP95Milliseconds": 10000,
                        "escalateP99Milliseconds": 5000,
                    },
                }
            ]
        },
    },
    check=went_back,
    rate=20,
    within=600,
)
