"""Signal trap of 2A: Chroma hangs again and again, each time for less than `for`. Nothing is done.

A restart would be an outage of its own, longer than those.
"""

import contextlib
from collections.abc import Generator

from harness.library import Library
from harness.scenario import End, Scenario
from harness.wait import wait_for

TIMES = 4


@contextlib.contextmanager
def flapping(library: Library) -> Generator[None]:
    """Each time until the service has noticed, and then until it has noticed that it is over."""

    def is_up() -> bool:
        return library.client.health().components["chromadb"].status == "up"

    for _ in range(TIMES):
        with library.chroma.hung():
            wait_for("the breaker to open", lambda: not is_up(), timeout=30)
        wait_for("the breaker to close", is_up, timeout=30)
    yield


SCENARIO = Scenario(
    title="Chroma hangs for a few seconds, four times",
    fault=flapping,
    end=End.QUIET,
    spec={
        "remediation": {
            "runbooks": [
                {"name": "ChromaUnreachable", "window": "40s", "for": "20s", "settle": "5s", "healthyPeriod": "15s"}
            ]
        }
    },
    watch=30,
)
