"""2B: somebody has changed the target port of Chroma's Service. Its endpoints are there, and nobody listens on them.

The pod is ready, so a restart (2A) would cost its caches and cure nothing.
"""

from harness.faults.network import ChromaService
from harness.scenario import End, Scenario

SCENARIO = Scenario(
    title="the port of Chroma's Service is changed",
    fault=lambda library: ChromaService(library).wrong_target_port(),
    end=End.RESOLVED,
    runbook="ChromaUnreachable",
    right=(("RepairNetwork", "Successful"),),
)
