"""2B: somebody has changed the selector of Chroma's Service, so that nothing is behind it. Our fields are put back.

Chroma's pod is ready and would answer, so a restart (2A) would cost its caches and cure nothing.
"""

from collections.abc import Sequence

from harness.faults.network import ChromaService
from harness.kinds import Incident
from harness.library import Library
from harness.scenario import End, Scenario


def is_put_back(library: Library, incident: Incident | None) -> Sequence[str]:
    """By a patch of that Service; it is neither deleted nor made anew."""
    done = [(one.action.type, one.action.target.name) for one in incident.status.attempts] if incident else []
    wanted = [("PutFields", ChromaService(library).name)]
    return () if done == wanted else (f"actions {done}, expected {wanted}",)


SCENARIO = Scenario(
    title="the selector of Chroma's Service is changed",
    fault=lambda library: ChromaService(library).selects_nothing(),
    end=End.RESOLVED,
    runbook="ChromaUnreachable",
    right=(("RepairNetwork", "Successful"),),
    check=is_put_back,
)
