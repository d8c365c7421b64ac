"""3A: the caches are the memory. Their owner made them larger than what the pod may use, and large answers fill them.

A restart would lose every cached answer, and they would fill up again; a higher limit would only move the end.
"""

from collections.abc import Sequence

from harness.faults.memory import MIB, Memory
from harness.kinds import Incident
from harness.library import Library
from harness.scenario import End, Scenario

LIMIT = 512 * MIB


def pods_stayed(library: Library, _incident: Incident | None) -> Sequence[str]:
    """Caches change live: nothing was restarted, and the bound is an overlay, not a change of the owner's spec."""
    found = {overlay.kind for overlay in library.get().status.overlays}
    problems = [] if "cache.maxMemoryMB" in found else [f"overlays {sorted(found)}"]
    return [*problems, *(f"restarted: {pod}" for pod in library.service_pods() if pod.restarts)]


SCENARIO = Scenario(
    title="the caches fill the memory",
    fault=lambda library: Memory(library, LIMIT).full_of_answers(),
    end=End.RESOLVED,
    runbook="MemoryPressure",
    right=(("LimitCaches", "Successful"),),
    spec={
        "service": {"replicas": 1, "resources": {"requests": {"memory": "256Mi"}, "limits": {"memory": "512Mi"}}},
        "cache": {"queryEntries": 100_000},
        "remediation": {
            "runbooks": [
                {
                    "name": "MemoryPressure",
                    "window": "5m",
                    "for": "8s",
                    "settle": "10s",
                    "cooldown": "10s",
                    "healthyPeriod": "15s",
                    "verifyTimeout": "90s",
                    # Growth in half a minute says nothing about hours.
                    "thresholds": {"trendHours": 0.1},
                }
            ]
        },
    },
    check=pods_stayed,
)
