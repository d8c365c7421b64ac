"""Signal trap of 2A: Chroma hangs again and again, each time for less than `for`. Nothing is done.

A restart would be an outage of its own, longer than those.
"""

import contextlib
import time
from collections.abc import Generator

from harness.library import Library
from harness.scenario import End, Scenario
from harness.wait import stays, wait_for

HOLD_SECONDS = 15
FLAPPING_SECONDS = 3 * HOLD_SECONDS  # were the good times between not seen, it would long be an incident

GOOD_SECONDS = 8  # four scrapes


@contextlib.contextmanager
def flapping(library: Library) -> Generator[None]:
    """Each time until the service has noticed, and then until it has noticed that it is over."""

    def is_up() -> bool:
        return library.client.health().components["chromadb"].status == "up"

    until = time.monotonic() + FLAPPING_SECONDS
    while time.monotonic() < until:
        with library.chroma.hung():
            wait_for("the breaker to open", lambda: not is_up(), timeout=30)
        wait_for("the breaker to close", is_up, timeout=30)
        stays("Chroma answers", is_up, seconds=GOOD_SECONDS)
    yield


SCENARIO = Scenario(
    title="Chroma hangs for seconds, again and again",
    fault=flapping,
    end=End.QUIET,
    spec={
        "service": {"replicas": 1},  # every look is at the same breaker
        "remediation": {
            "runbooks": [
                {
                    "name": "ChromaUnreachable",
                    "window": "40s",
                    "for": f"{HOLD_SECONDS}s",
                    "settle": "5s",
                    "healthyPeriod": "15s",
                }
            ]
        },
    },
    watch=30,
)
