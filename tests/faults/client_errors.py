"""4B: clients send a flood of requests that make no sense. It is told, and nothing is done about it.

The service is well: a rollback (4A) would take away a good release, more pods (1C) would refuse the same requests.
"""

from collections.abc import Sequence

from harness.faults.clients import malformed_requests
from harness.kinds import Incident
from harness.library import Library
from harness.scenario import End, Scenario

REASON = "ClientErrors"


def told(library: Library, _incident: Incident | None) -> Sequence[str]:
    """An event names the paths and statuses."""
    said = [event.message for event in library.events(library.name) if event.reason == REASON]
    named = [message for message in said if "/api/v1/query/{project} 422" in message]
    return () if named else [f"no event {REASON} that names the path, only {said}"]


SCENARIO = Scenario(
    title="clients send malformed requests",
    fault=malformed_requests,
    end=End.QUIET,
    spec={"remediation": {"runbooks": [{"name": "APIErrorRateSpike", "window": "30s", "for": "6s", "settle": "5s"}]}},
    check=told,
    watch=75,
    is_quick=True,
)
