"""2A: Chroma's heartbeat answers 200 and every read fails, as after a restore beside the running server."""

from harness.scenario import End, Scenario

SCENARIO = Scenario(
    title="Chroma answers errors, its heartbeat 200",
    fault=lambda library: library.chroma.file_replaced(),
    end=End.RESOLVED,
    runbook="ChromaUnreachable",
    right=(("RestartChroma", "Successful"),),
)
