"""8A and 4A at once: an index of the database is damaged while a release that answers 500 is rolled out.

Each has its own cure: the index is made anew from its tables, and the release is taken back. As long as the damage is
an incident, it explains the errors, and no release is blamed for them.
"""

import contextlib
from collections.abc import Generator

from harness.errors import NotMetError
from harness.faults.database import BRISK, Database
from harness.faults.release import SOON, Release
from harness.library import Library
from harness.scenario import End, Scenario
from harness.wait import wait_for


@contextlib.contextmanager
def both(library: Library) -> Generator[None]:
    """Under writers; whatever they were told is stored has to be there at the end."""
    release, database = Release(library), Database(library)
    release.wait_until_remembered()
    release.install()
    before = database.documents()
    with database.writers() as writer:
        wait_for("some writes", lambda: len(writer.acknowledged) > 20, timeout=60, explain=library.explain)
        release.switch(fails=True)
        release.roll_out(1)
        database.damage_index()
        yield
    lost = (before | set(writer.acknowledged)) - database.documents()
    if lost:
        raise NotMetError(f"{len(lost)} acknowledged documents are lost, {min(lost)} among them")


SCENARIO = Scenario(
    title="an index is damaged while a bad release is rolled out",
    fault=both,
    end=End.RESOLVED,
    runbook="DatabaseCorruption",
    also=("APIErrorRateSpike",),
    right=(("CheckIntegrity", "Diagnosed"), ("ReindexDatabase", "Successful"), ("RollBack", "Successful")),
    spec={"service": {"replicas": 2}, "remediation": {"runbooks": [*BRISK["runbooks"], SOON]}},
    may_fail=4000,  # behind the fence nobody answers, and until the rollback the release does not
    alerts=("APIErrorRateSpike", "DatabaseCorruption"),
    within=600,
)
