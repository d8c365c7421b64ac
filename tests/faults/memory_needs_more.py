"""3T: one pod at a time needs more than its limit, and is killed for it again and again.

A restart (3B) frees nothing that stays free, and the caches are small (3A): the limit goes up by half, which is enough.
"""

from collections.abc import Sequence

from harness.faults.memory import MIB, Memory
from harness.kinds import Incident
from harness.library import Library
from harness.scenario import End, Scenario

LIMIT = 512 * MIB


def limit_is_higher(library: Library, _incident: Incident | None) -> Sequence[str]:
    found = {overlay.kind for overlay in library.get().status.overlays}
    return () if found == {"service.resources.limits.memory"} else (f"overlays {sorted(found)}",)


SCENARIO = Scenario(
    title="a pod needs more memory than its limit",
    fault=lambda library: Memory(library, LIMIT).agent_needs(540),
    end=End.RESOLVED,
    runbook="MemoryPressure",
    right=(("RaiseMemoryLimit", "Successful"),),
    spec={
        "service": {"resources": {"requests": {"memory": "256Mi"}, "limits": {"memory": "512Mi"}}},
        "remediation": {
            "runbooks": [
                {
                    "name": "MemoryPressure",
                    "window": "1m",
                    "for": "8s",
                    "settle": "45s",
                    "cooldown": "10s",
                    "healthyPeriod": "15s",
                    "verifyTimeout": "2m",
                    # Growth in half a minute says nothing about hours.
                    "thresholds": {"trendHours": 0.1},
                }
            ]
        },
    },
    check=limit_is_higher,
    may_fail=300,
    within=420,
)
