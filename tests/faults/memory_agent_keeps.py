"""3B: an agent that was loaded into the process keeps what it should have sent, and fills the memory beside the caches.

Smaller caches (3A) would free next to nothing and slow every search; a restart empties the agent. What it holds is
written down before that (3P).
"""

from collections.abc import Sequence

from harness.faults.memory import MIB, Memory
from harness.kinds import Incident
from harness.library import Library
from harness.scenario import End, Scenario

LIMIT = 768 * MIB


def profile_names_the_agent(_library: Library, incident: Incident | None) -> Sequence[str]:
    attempts = () if incident is None else incident.status.attempts
    notes = [note for one in attempts if one.report is not None for note in one.report.notes]
    return () if any("sitecustomize" in note for note in notes) else (f"the profile says {notes}",)


SCENARIO = Scenario(
    title="an agent in the process keeps memory",
    fault=lambda library: Memory(library, LIMIT).agent_keeps(0.92),
    end=End.RESOLVED,
    runbook="MemoryPressure",
    right=(("ProfileHeap", "Diagnosed"), ("RestartService", "Successful")),
    spec={
        "service": {"resources": {"requests": {"memory": "256Mi"}, "limits": {"memory": "768Mi"}}},
        "remediation": {
            "runbooks": [
                {
                    "name": "MemoryPressure",
                    "window": "1m",
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
    check=profile_names_the_agent,
    within=360,
)
