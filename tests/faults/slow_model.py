"""1D: in one of two pods every run of the model waits for an agent that reports it. A new process in its place is fast.

Only this pod is slow: what all pods use, such as Chroma (1B), the size of the caches (1A) and the number of pods (1C),
cannot be the cause, and the other pod keeps its caches.

The agent is loaded by a rollout, and nothing is slow before the new pods are two and a half minutes old: until then the
operator takes a slow model for one that is being loaded. The times of the scenario count from the rollout.
"""

from collections.abc import Sequence

from harness.faults.in_process import slow_export
from harness.kinds import Incident
from harness.library import Library
from harness.scenario import End, Scenario

REPLICAS = 2


def other_pod_stayed(library: Library, incident: Incident | None) -> Sequence[str]:
    opened = None if incident is None else incident.status.opened_at
    stayed = [pod.name for pod in library.service_pods() if opened and pod.metadata.creation_timestamp < opened]
    return () if len(stayed) == REPLICAS - 1 else (f"pods from before the incident: {stayed}",)


SCENARIO = Scenario(
    title="the model is slow in one pod",
    fault=slow_export,
    end=End.RESOLVED,
    runbook="HighQueryLatency",
    alerts=("HighQueryLatency",),
    right=(("RestartSlowPods", "Successful"),),
    spec={
        "service": {"replicas": REPLICAS, "resources": {"limits": {"memory": "8Gi"}}},
        "remediation": {
            "runbooks": [
                {
                    "name": "HighQueryLatency",
                    "window": "150s",
                    "for": "20s",
                    "settle": "5s",
                    "cooldown": "10s",
                    "healthyPeriod": "10s",
                    "verifyTimeout": "5m",
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
    check=other_pod_stayed,
    rate=10,
    within=600,
)
