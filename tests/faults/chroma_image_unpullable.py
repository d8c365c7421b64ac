"""Wrong-fix trap of 2A: the image cannot be pulled. A restart would not help, so none happens and a human is told."""

from harness.scenario import End, Scenario

SCENARIO = Scenario(
    title="Chroma's image cannot be pulled",
    fault=lambda library: library.chroma.image_unpullable(),
    end=End.ESCALATED,
    runbook="ChromaUnreachable",
    reason="NoOptionApplicable",
)
