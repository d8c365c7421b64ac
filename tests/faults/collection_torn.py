"""2D: half of the vectors of a collection are gone, and Chroma answers as if nothing had happened. It is made anew.

The canaries tell. A restart comes first, because what fails after a crash may clear; it does not help here, and another
one would not either. The vectors are in the database, so the rebuild needs no model and no document.
"""

from collections.abc import Sequence

from harness.faults.index import vectors_lost
from harness.kinds import Incident
from harness.library import Library
from harness.scenario import End, Scenario

QUERY = "How long are backups kept?"


def is_whole(library: Library, _incident: Incident | None) -> Sequence[str]:
    """A search that no cache knows is answered with vectors again."""
    answer = library.client.search(QUERY)
    return (f"answers are still degraded: {answer.degraded_reason}",) if answer.degraded_mode else ()


SCENARIO = Scenario(
    title="half of a collection's vectors are lost",
    fault=vectors_lost,
    end=End.RESOLVED,
    runbook="ChromaUnreachable",
    right=(("RestartChroma", "Failed"), ("RebuildCollection", "Successful")),
    spec={
        "remediation": {
            "runbooks": [
                {
                    "name": "ChromaUnreachable",
                    "window": "20s",
                    "for": "8s",
                    "settle": "5s",
                    "healthyPeriod": "15s",
                    "verifyTimeout": "30s",
                }
            ]
        }
    },
    check=is_whole,
)
