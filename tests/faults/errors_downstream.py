"""4C: Chroma hangs, while the incident of errors (4) looks closely. Only incident 2 acts; nothing is rolled back.

Without Chroma the service answers by keyword and says so: degraded answers are no errors.
"""

from harness.scenario import End, Scenario

SCENARIO = Scenario(
    title="Chroma hangs, errors are watched closely",
    fault=lambda library: library.chroma.hung(),
    end=End.RESOLVED,
    runbook="ChromaUnreachable",
    symptoms=("APIErrorRateSpike",),
    right=(("RestartChroma", "Successful"),),
    spec={
        "remediation": {
            "runbooks": [
                {
                    "name": "APIErrorRateSpike",
                    "window": "30s",
                    "for": "6s",
                    "settle": "5s",
                    "healthyPeriod": "15s",
                    "thresholds": {"serverErrorPercent": 0.1, "persistentErrorPercent": 0.05, "minimumRequests": 10},
                }
            ]
        }
    },
    is_quick=True,
)
