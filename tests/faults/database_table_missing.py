"""4D: somebody renames a table under the running service, and queries fail. The database is checked, incident 8 opens.

A restore would replace a whole file for what one statement mends, a rollback (4A) would bring the same queries back. So
nothing is changed, and a human is told what the check has found.
"""

from collections.abc import Sequence

from harness.faults.database import Database
from harness.kinds import Incident
from harness.library import Library
from harness.scenario import End, Scenario


def nothing_is_lost(library: Library, _incident: Incident | None) -> Sequence[str]:
    """With the table in its place the service answers again."""
    found = library.client.search("What makes the sea rise and fall twice a day?", mode="keyword")
    return () if "tides" in found.documents else [f"answered with {found.documents}"]


SCENARIO = Scenario(
    title="a table of the database is renamed",
    fault=lambda library: Database(library).table_missing(),
    end=End.ESCALATED,
    runbook="DatabaseCorruption",
    reason="NoOptionApplicable",
    also=("APIErrorRateSpike",),
    right=(("CheckDatabase", "Diagnosed"),),
    spec={
        "remediation": {
            "runbooks": [
                {"name": "APIErrorRateSpike", "window": "30s", "for": "6s", "settle": "5s", "healthyPeriod": "15s"},
                {"name": "DatabaseCorruption", "window": "30s", "for": "6s", "settle": "5s", "healthyPeriod": "15s"},
            ]
        }
    },
    check=nothing_is_lost,
    may_fail=2400,  # nobody can answer meanwhile
)
