"""1C: more people ask than one pod has CPU for. A second pod makes answers fast again, and is kept.

The starved pod times every call as slow, those of Chroma and of the model too, and they are not: a restart of Chroma
(1B) or of the pod (1D) would answer nobody faster. The questions are new ones, so no cache (1W, 1A) can know them.
Shedding load (1S) would turn away people who can be served.
"""

from collections.abc import Sequence

from harness.faults.crowd import crowd
from harness.kinds import Incident
from harness.library import Library
from harness.scenario import End, Scenario


def has_two_pods(library: Library, _incident: Incident | None) -> Sequence[str]:
    """By an overlay: the spec stays its owner's."""
    kinds = {overlay.kind for overlay in library.get().status.overlays}
    ready = [pod.name for pod in library.service_pods() if pod.is_ready]
    return [
        *([] if kinds == {"service.replicas"} else [f"overlays: {kinds}"]),
        *([] if len(ready) == 2 else [f"ready pods: {ready}"]),
    ]


SCENARIO = Scenario(
    title="one pod has too little CPU for all who ask",
    fault=lambda library: crowd(library, people=22, pause=1.3),
    end=End.RESOLVED,
    runbook="HighQueryLatency",
    alerts=("HighQueryLatency",),
    right=(("ScaleOut", "Successful"),),
    spec={
        "service": {"replicas": 1, "maxReplicas": 2, "resources": {"limits": {"cpu": "150m", "memory": "8Gi"}}},
        "remediation": {
            "runbooks": [
                {
                    "name": "HighQueryLatency",
                    "window": "150s",
                    # The CPU of the last two minutes has to show the crowd.
                    "for": "90s",
                    "settle": "5s",
                    "cooldown": "10s",
                    "healthyPeriod": "10s",
                    "verifyTimeout": "5m",
                    "thresholds": {
                        "p99Milliseconds": 1000,
                        "minimumQueries": 200,
                        "escalateP99Milliseconds": 5000,
                        # Of a node that carries other tests as well.
                        "nodePercent": 100,
                    },
                }
            ]
        },
    },
    check=has_two_pods,
    rate=10,
    within=700,
)
