"""2A: Chroma's port accepts and nothing answers. A restart is the cure."""

from harness.scenario import End, Scenario

SCENARIO = Scenario(
    title="Chroma hangs (SIGSTOP)",
    fault=lambda library: library.chroma.hung(),
    end=End.RESOLVED,
    runbook="ChromaUnreachable",
    right=(("RestartChroma", "Successful"),),
)
