"""2E: Chroma needs more memory than its limit, and is killed for it again and again.

A restart (2A) runs into the same limit. The limit goes up by half, which is enough; what the owner has asked for stays.
"""

from collections.abc import Sequence

from harness.faults.chroma_memory import needs
from harness.kinds import Incident
from harness.library import Library
from harness.scenario import End, Scenario

LIMIT = 512


def limit_is_higher(library: Library, _incident: Incident | None) -> Sequence[str]:
    found = {overlay.kind for overlay in library.get().status.overlays}
    return () if found == {"chroma.resources.limits.memory"} else (f"overlays {sorted(found)}",)


SCENARIO = Scenario(
    title="Chroma needs more memory than its limit",
    fault=lambda library: needs(library, LIMIT * 6 // 5),
    end=End.RESOLVED,
    runbook="ChromaUnreachable",
    right=(("RaiseMemoryLimit", "Successful"),),
    spec={"chroma": {"resources": {"limits": {"memory": f"{LIMIT}Mi"}}}},
    check=limit_is_higher,
    within=300,
)
