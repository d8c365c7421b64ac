"""2A, cause before symptom: Chroma gets slow, then hangs. Slow queries have an incident that Chroma's explains.

Its own remedies (more pods, a larger cache, another restart of Chroma) would come on top of the restart (2A) that cures
both.
"""

import contextlib
import time
from collections.abc import Generator

from harness.faults.slowness import slowed
from harness.library import Library
from harness.scenario import End, Scenario
from harness.wait import stays

SLOW_SECONDS = 90  # queries are slow for so long before Chroma hangs: less than makes an incident of them alone


@contextlib.contextmanager
def slow_then_hung(library: Library) -> Generator[None]:
    began = time.monotonic()
    with slowed(library):
        left = SLOW_SECONDS - (time.monotonic() - began)
        stays("no incident opens yet", lambda: not library.incidents(), seconds=left, interval=1)
    with library.chroma.hung():
        yield


SCENARIO = Scenario(
    title="Chroma is slow, then hangs",
    fault=slow_then_hung,
    end=End.RESOLVED,
    runbook="ChromaUnreachable",
    also=("HighQueryLatency",),
    caused_by={"HighQueryLatency": "ChromaUnreachable"},
    alerts=("HighQueryLatency",),
    right=(("RestartChroma", "Successful"),),
    spec={
        "remediation": {
            "runbooks": [
                {
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
                },
                # Open until the window of the queries has nothing of the outage in it.
                {"name": "ChromaUnreachable", "window": "20s", "for": "8s", "settle": "5s", "healthyPeriod": "200s"},
            ]
        }
    },
    rate=10,
    within=500,
)
