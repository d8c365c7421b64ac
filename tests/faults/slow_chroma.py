"""1B: Chroma stands still for 700 ms of every 850 ms, and answers in time otherwise. A restart is the cure.

Most queries are new, so no cache (1A) can know them; the service pods are idle, so more of them (1C) would wait for the
same Chroma; the model is fast, so restarting the pods (1D) would cost their caches for nothing.
"""

from harness.faults.slowness import slowed
from harness.scenario import End, Scenario

LATENCY = {
    "name": "HighQueryLatency",
    "window": "150s",
    "for": "10s",
    "settle": "5s",
    "cooldown": "10s",
    "healthyPeriod": "10s",
    "verifyTimeout": "4m",
    "thresholds": {
        "minimumQueries": 200,
        "escalateP99Milliseconds": 5000,
        "diversityPercent": 60,
        # Of a node that carries other tests as well.
        "nodePercent": 100,
    },
}

SCENARIO = Scenario(
    title="Chroma is slow and answers",
    fault=slowed,
    end=End.RESOLVED,
    runbook="HighQueryLatency",
    alerts=("HighQueryLatency",),
    right=(("RestartChroma", "Successful"),),
    spec={"remediation": {"runbooks": [LATENCY]}},
    rate=10,
    within=600,
)
