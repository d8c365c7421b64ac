"""Wrong-fix trap of 2B: Chroma's Service has no endpoints because its pod is not ready. The Service is left alone.

The pod waits for a node that there is not; neither the Service nor a restart (2A) is at fault, so a human is told.
"""

from collections.abc import Sequence

from harness.faults.network import unschedulable
from harness.kinds import Incident
from harness.library import Library
from harness.scenario import End, Scenario


def is_told_so(_library: Library, incident: Incident | None) -> Sequence[str]:
    """The node selector is named, and why the Service is not touched."""
    escalation = incident.status.escalation if incident is not None else None
    told = escalation.next_step if escalation is not None else ""
    wanted = ("node selector", "because its pod is not ready")
    return [f"not told: {words} in {told!r}" for words in wanted if words not in told]


SCENARIO = Scenario(
    title="no endpoints, for Chroma's pod is not ready",
    fault=unschedulable,
    end=End.ESCALATED,
    runbook="ChromaUnreachable",
    reason="NoOptionApplicable",
    check=is_told_so,
)
